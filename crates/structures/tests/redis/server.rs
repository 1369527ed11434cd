//! A redis-server of our own.

use std::{
    io::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::resp::{Connection, Value};

/// A server that keeps nothing, on a port that was free; it ends when this does.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts one; `None`, and a word about it, if there is no redis-server, or one of another version.
    pub fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let port_text = port.to_string();
        let arguments = ["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let child = Command::new("redis-server").args(arguments).env("LC_ALL", "C").stdout(Stdio::null()).spawn();
        let Ok(child) = child else {
            return nothing("there is no redis-server on the PATH");
        };
        let server = Self { child, port };
        let started = Instant::now();
        while Connection::open(port, 2).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "redis-server does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let version = server.version();
        if version.starts_with("7.0.") {
            return Some(server);
        }
        nothing(&format!("replies are those of Redis 7.0, and the redis-server on the PATH is {version}"))
    }

    fn version(&self) -> String {
        let mut connection = Connection::open(self.port, 2).expect("a connection");
        let Ok(Value::Bulk(info)) = connection.ask(&["INFO".into(), "server".into()]) else { return "unknown".into() };
        let info = String::from_utf8_lossy(&info);
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        version.unwrap_or("unknown").trim().to_string()
    }
}

/// Says so past the test's own output, which is not shown if it passes.
fn nothing(reason: &str) -> Option<Server> {
    let _ = writeln!(std::io::stderr(), "COMPARED NOTHING: {reason}");
    None
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
