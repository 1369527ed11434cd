//! What `difused dev` prints.

use std::{fs, process::ExitStatus, time::Duration};

use super::{
    child::Child,
    plan::{Plan, PlannedNode},
};
use crate::terminal::table;

/// How many lines of a node's log are shown when it did not start.
const LOG_LINES_SHOWN: usize = 8;

/// What is where, as soon as the processes run.
pub fn started(plan: &Plan, children: &[Child]) -> String {
    let rows = plan.nodes.iter().zip(children).map(|(node, child)| {
        [
            node.number.to_string(),
            child.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            format!("http://{}", node.http),
            node.resp_text(),
            node.bind.to_string(),
            node.data_dir.display().to_string(),
        ]
    });
    let remarks: String = plan.remarks.iter().map(|remark| format!("Note: {remark}\n")).collect();
    let table = table(&["node", "pid", "HTTP", "Redis", "ring", "data"], rows);
    format!("{remarks}{table}\nLogs: {}/node-*.log\nWaiting until the ring serves …\n", plan.folder.display())
}

/// How to try it, once it serves.
pub fn ready(plan: &Plan, after: Duration) -> String {
    let (first, last) = (&plan.nodes[0], &plan.nodes[plan.nodes.len() - 1]);
    let seconds = after.as_secs_f64();
    let redis =
        last.resp.map(|address| format!("  redis-cli -p {} GET greeting\n", address.port())).unwrap_or_default();
    format!(
        "The ring of {count} serves, {seconds:.1} s after the start. Try:

  curl -X PUT --data-binary 'hello' http://{http}/v1/keys/greeting
  curl http://{other}/v1/keys/greeting
  curl -T README.md http://{http}/v1/files/docs/README.md
  curl http://{other}/v1/ring
{redis}  difuse --node {bind} kv log greeting
  kill -9 <pid of a node>, and read again

Ctrl-C stops all nodes; their data stays for the next start.
",
        count = plan.nodes.len(),
        http = first.http,
        other = last.http,
        bind = first.bind,
    )
}

/// Why there is no ring.
pub fn failed_to_start(node: &PlannedNode, status: Option<ExitStatus>) -> String {
    let log = fs::read_to_string(&node.log).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
    format!("Node {} ended ({}). The last lines of {}:\n  {shown}", node.number, describe(status), node.log.display())
}

/// A node ended while the ring was up.
pub fn ended(node: &PlannedNode, status: Option<ExitStatus>, shared_arguments: &[String]) -> String {
    let program = std::env::current_exe().map_or("difused".into(), |path| quoted(&path.to_string_lossy()));
    let arguments: Vec<_> = node.arguments().into_iter().chain(shared_arguments.iter().cloned()).collect();
    let arguments = arguments.iter().filter(|argument| !argument.ends_with('=')).map(|argument| quoted(argument));
    format!(
        "Node {} ended ({}). The others go on. To bring it back:\n  {program} {}",
        node.number,
        describe(status),
        arguments.collect::<Vec<_>>().join(" ")
    )
}

fn describe(status: Option<ExitStatus>) -> String {
    status.map_or("its status is unknown".into(), |status| status.to_string())
}

/// An argument as a shell takes it.
fn quoted(argument: &str) -> String {
    let is_plain = argument.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_=./:,".contains(letter));
    if is_plain { argument.into() } else { format!("'{}'", argument.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn arguments_survive_a_shell() {
        assert_eq!(quoted("--http=127.0.0.1:9090"), "--http=127.0.0.1:9090");
        assert_eq!(quoted("--zone=it's here"), r"'--zone=it'\''s here'");
    }
}
