//! Namespaces for one run: the program executes itself again as the first process of new mount, network and process
//! namespaces. With it everything in them ends: interfaces, namespaces of nodes, and processes, stopped ones included.
//! That is why nothing needs to be cleaned up, neither after a failure nor after a kill -9.

use std::{
    env,
    io::Read,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
};

use crate::{arguments::Arguments, network::Network};

const UNSHARE: [&str; 6] = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// What lets a user be root within new namespaces, where the kernel allows it.
const AS_USER: [&str; 2] = ["--user", "--map-root-user"];
/// Each tool that is needed, and its Debian package.
const TOOLS: [(&str, &str); 4] =
    [("unshare", "util-linux"), ("mount", "mount"), ("ip", "iproute2"), ("nft", "nftables")];

/// A way of making namespaces that was seen to work.
pub struct Sandbox {
    is_user: bool,
}

/// Finds a way to make namespaces; else says what is missing and what to do about it.
pub fn find() -> Result<Sandbox, String> {
    let missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| !is_installed(tool)).collect();
    if !missing.is_empty() {
        let tools: Vec<_> = missing.iter().map(|(tool, _)| *tool).collect();
        let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
        return Err(format!("not found: {}; install: apt-get install {}", tools.join(", "), packages.join(" ")));
    }
    let mut reasons = Vec::new();
    for is_user in [false, true] {
        let sandbox = Sandbox { is_user };
        match sandbox.probe() {
            Ok(()) => return Ok(sandbox),
            Err(reason) => {
                reasons.push(format!("{}: {reason}", if is_user { "with a user namespace" } else { "directly" }))
            }
        }
    }
    Err(format!(
        "network namespaces cannot be made here ({}); run it as root, in a container with the capabilities SYS_ADMIN \
         and NET_ADMIN, or allow users to make namespaces (sysctl kernel.unprivileged_userns_clone=1)",
        reasons.join("; ")
    ))
}

fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|folder| folder.join(tool).exists())
}

impl Sandbox {
    fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        if self.is_user {
            command.args(AS_USER);
        }
        command.args(UNSHARE).arg("--").arg(env::current_exe().unwrap_or_default());
        // Users do not always have the tools of root on their path.
        let path = env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    fn probe(&self) -> Result<(), String> {
        let output = self.command().args(["run", "--probe"]).stdin(Stdio::null()).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))
    }

    /// Runs this program again, inside, with the same arguments, and returns how it ended.
    pub fn enter(&self, arguments: &Arguments) -> ExitCode {
        let mut command = self.command();
        command.args(env::args_os().skip(1)).arg("--inside");
        if let Some(program) = &arguments.program {
            let program = program.canonicalize().unwrap_or_else(|_| program.clone());
            command.arg("--difused").arg(program);
        }
        // The pipe's end tells the process inside that this one has ended.
        let child = command.stdin(Stdio::piped()).spawn();
        match child.and_then(|mut child| {
            let _pipe = child.stdin.take();
            child.wait()
        }) {
            Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
            Err(error) => {
                eprintln!("difuse-faults: unshare: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Tries to make a network, in the namespaces of this process.
pub fn answer_probe() -> ExitCode {
    match Network::in_namespaces().and_then(|network| network.cut(&[(1, 2)].into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process, and with it all others in its namespaces, when the one that started it has ended.
pub fn end_with_parent() {
    thread::spawn(|| {
        let mut rest = Vec::new();
        // An error is an end, too.
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(1);
    });
}

/// Where the library is that gives a process another clock, if it is installed.
pub fn faketime() -> Option<std::path::PathBuf> {
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Path::new);
    let folders = roots.iter().flat_map(|root| {
        let below = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        below.chain([root.to_path_buf()]).collect::<Vec<_>>()
    });
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|library| library.exists())
}
