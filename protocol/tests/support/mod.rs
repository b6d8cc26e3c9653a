//! What several tests need.
#![allow(dead_code)]

use std::net::SocketAddr;

use leben_protocol::quic::{Connection, Dialer, LinkError, Listener, public_key};

pub const COORDINATOR: [u8; 32] = [1; 32];
pub const WORKER: [u8; 32] = [2; 32];
pub const STRANGER: [u8; 32] = [3; 32];

pub fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn listen() -> Listener {
    Listener::bind(anywhere(), &COORDINATOR).unwrap()
}

pub async fn dial(listener: &Listener) -> Result<Connection, LinkError> {
    let key = public_key(&COORDINATOR)?;
    Dialer::new(&WORKER)?.dial(listener.local_addr()?, key).await
}

/// Two ends of one link: the coordinator's, then the worker's.
pub async fn link(listener: &Listener) -> (Connection, Connection) {
    let (here, there) = tokio::join!(listener.accept(), dial(listener));
    (here.unwrap().unwrap(), there.unwrap())
}
