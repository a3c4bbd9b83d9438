"""Drives the real `postern` binary from outside: processes, sockets, bytes.

binary        runs the command line and reads what it prints
gate          starts a gateway on free ports in a temporary state folder and stops it again
backend       services to stand behind it: one that records every byte, others that misbehave by script
wire          a raw HTTP/1 client that sends exactly the bytes it is given and reads answers strictly
programs      services in processes of their own: nginx, and one that counts and is killed
h2wire        the same for HTTP/2, frame by frame
certificates  a throw-away certificate authority
forge         tokens that no honest tool would make
"""
