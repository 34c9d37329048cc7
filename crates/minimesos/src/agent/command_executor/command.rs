//! The command of a task as a process group.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;

use meson_mesos::types::TaskInfo;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::agent::container::command_line;

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    child: tokio::process::Child,
    group: Option<Pid>,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// With exit status 0.
    pub(super) succeeded: bool,
    /// In Mesos's words.
    pub(super) message: String,
}

impl Running {
    /// Starts a task's command; its output goes where the executor's own goes,
    /// which is the sandbox.
    pub(super) fn start(task: &TaskInfo) -> Result<Self, String> {
        if task.health_check.is_some() || task.check.is_some() {
            return Err("this agent's command executor does not do checks; \
                        use an executor of your own"
                .to_owned());
        }
        let info = task.command.clone().unwrap_or_default();
        let (program, argv) = command_line(&info)?;
        let mut command = std::process::Command::new(&program);
        let mut argv = argv.iter();
        if let Some(arg0) = argv.next() {
            command.arg0(arg0);
        }
        // A group of its own, so that a signal reaches all of it and not us; the
        // executor's session, so that the agent finds it when we are no more.
        command.args(argv).process_group(0);
        for variable in info.environment.iter().flat_map(|all| &all.variables) {
            if let Some(value) = &variable.value {
                command.env(&variable.name, value);
            }
        }
        let child = tokio::process::Command::from(command)
            .spawn()
            .map_err(|error| format!("Failed to launch '{program}': {error}"))?;
        let group = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .map(Pid::from_raw);
        Ok(Self { child, group })
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // An error says that the group is gone, which is what is wanted.
            let _ = killpg(group, signal);
        }
    }

    /// Asks the whole group to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the whole group.
    pub(super) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Waits for the end of the command.
    pub(super) async fn ended(&mut self) -> Outcome {
        match self.child.wait().await {
            Ok(status) => outcome(status),
            Err(error) => Outcome {
                succeeded: false,
                message: format!("Failed to wait for the command: {error}"),
            },
        }
    }
}

fn outcome(status: ExitStatus) -> Outcome {
    let message = match (status.code(), status.signal()) {
        (Some(code), _) => format!("Command exited with status {code}"),
        (None, signal) => format!(
            "Command terminated with signal {}",
            signal_text(signal.unwrap_or_default())
        ),
    };
    Outcome {
        succeeded: status.success(),
        message,
    }
}

/// A signal as `strsignal(3)` names it.
fn signal_text(signal: i32) -> String {
    let Ok(known) = Signal::try_from(signal) else {
        return format!("Unknown signal {signal}");
    };
    match known {
        Signal::SIGHUP => "Hangup",
        Signal::SIGINT => "Interrupt",
        Signal::SIGQUIT => "Quit",
        Signal::SIGILL => "Illegal instruction",
        Signal::SIGTRAP => "Trace/breakpoint trap",
        Signal::SIGABRT => "Aborted",
        Signal::SIGBUS => "Bus error",
        Signal::SIGFPE => "Floating point exception",
        Signal::SIGKILL => "Killed",
        Signal::SIGUSR1 => "User defined signal 1",
        Signal::SIGSEGV => "Segmentation fault",
        Signal::SIGUSR2 => "User defined signal 2",
        Signal::SIGPIPE => "Broken pipe",
        Signal::SIGALRM => "Alarm clock",
        Signal::SIGTERM => "Terminated",
        Signal::SIGXCPU => "CPU time limit exceeded",
        Signal::SIGXFSZ => "File size limit exceeded",
        other => other.as_str(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_mesoss_words() {
        let told = |raw: i32| outcome(ExitStatus::from_raw(raw));
        assert!(told(0).succeeded);
        assert_eq!(told(0).message, "Command exited with status 0");
        assert!(!told(3 << 8).succeeded);
        assert_eq!(told(3 << 8).message, "Command exited with status 3");
        assert_eq!(told(9).message, "Command terminated with signal Killed");
        assert_eq!(
            told(11).message,
            "Command terminated with signal Segmentation fault"
        );
    }
}
