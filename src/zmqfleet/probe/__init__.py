"""The probe: proves from every host which sockets answer and which must not."""
