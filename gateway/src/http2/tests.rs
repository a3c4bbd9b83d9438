//! A real HTTP/2 client, or raw frames, on one side; a scripted HTTP/1.1 service on the other; the gateway between them.

mod ends;
mod exchange;
mod grpc;
mod harness;
mod hostile;
mod rest;
