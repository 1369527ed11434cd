//! A redis-server of our own.

use std::{
    io::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::resp::Connection;

/// A server that keeps nothing, on a port that was free; it ends when this does.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts one; `None`, and a word about it, if there is no redis-server.
    pub fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let port_text = port.to_string();
        let arguments = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let child = Command::new("redis-server").args(arguments).env("LC_ALL", "C").stdout(Stdio::null()).spawn();
        let Ok(child) = child else {
            // Not by `eprintln`: what a test that passes prints is not shown.
            let _ = writeln!(std::io::stderr(), "COMPARED NOTHING: there is no redis-server on the PATH");
            return None;
        };
        let server = Self { child, port };
        let started = Instant::now();
        while Connection::open(port, 2).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "redis-server does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
