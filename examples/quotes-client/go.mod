module zmqfleet.example/quotes-client

go 1.25

require github.com/zeromq/goczmq v4.1.0+incompatible
