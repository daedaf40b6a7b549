//! Tests of networks across hosts: with an etcd of the test's own, hosts as network namespaces on one wire, and real
//! packets between their containers.

mod etcd;
mod leases;
mod members;
mod packets;
mod world;
