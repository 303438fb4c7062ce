module zmqfleet.example/pipeline

go 1.25

require github.com/pebbe/zmq4 v1.4.0
