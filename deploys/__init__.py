"""One pyinfra deploy a capability; each places the resources that the host's view lists."""
