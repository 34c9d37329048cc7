//! What the environment says: the agent's part of it ([`ExecutorEnvironment`]) and our own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meson_mesos::client::executor::{EnvironmentError, ExecutorEnvironment};

use crate::process::fence::Keeping;

/// Where the executor is and how it is to behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the agent says.
    pub mesos: ExecutorEnvironment,
    /// Our folder, from `MESOS_SANDBOX`.
    pub sandbox: PathBuf,
    /// Without a task for so long, we end (`MESON_EXECUTOR_IDLE_SECS`).
    pub idle: Duration,
    /// Fetched bundles and artifacts (`MESON_CACHE_DIR`; a folder of the sandbox by default,
    /// a shared one lets several executors of an agent fetch once).
    pub cache: PathBuf,
    /// A log file longer than this is rotated, once (`MESON_EXECUTOR_LOG_BYTES`).
    pub log_file_bytes: u64,
    /// Whether steps are kept within the memory that they asked for (`MESON_EXECUTOR_MEMORY`).
    pub memory: Keeping,
    /// This incarnation of the executor: its containers carry it as a label.
    pub instance: String,
}

const MEMORY: &str = "MESON_EXECUTOR_MEMORY";
/// Default of [`Settings::idle`].
pub const DEFAULT_IDLE: Duration = Duration::from_secs(60);
/// Default of [`Settings::log_file_bytes`].
pub const DEFAULT_LOG_FILE_BYTES: u64 = 10 << 20;
/// Rotating more often than this would cost more than it saves.
const MIN_LOG_FILE_BYTES: u64 = 4 << 10;

/// An environment that no agent made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The agent's part.
    #[error(transparent)]
    Mesos(#[from] EnvironmentError),
    /// No folder to work in.
    #[error(
        "reading an executor's environment: MESOS_SANDBOX is not set; an executor is started by a Mesos agent"
    )]
    NoSandbox,
    /// Another one.
    #[error(
        "reading an executor's environment: {name}={value:?} is unknown; write `enforce`, `watch` or `measure`, or leave it out"
    )]
    Unknown {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// One of our own variables.
    #[error("reading an executor's environment: {name}={value:?} is no whole number")]
    NotANumber {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl Settings {
    /// Reads the environment by way of `get`. `idle` goes before what the environment says.
    ///
    /// # Errors
    /// A variable that every agent sets is missing, or one cannot be read.
    pub fn read(
        get: impl Fn(&str) -> Option<String>,
        idle: Option<Duration>,
        instance: String,
    ) -> Result<Self, SettingsError> {
        let number = |name: &'static str| match get(name) {
            None => Ok(None),
            Some(value) => match value.trim().parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(SettingsError::NotANumber { name, value }),
            },
        };
        let mesos = ExecutorEnvironment::from_variables(&get)?;
        let sandbox = PathBuf::from(mesos.sandbox.clone().ok_or(SettingsError::NoSandbox)?);
        let told = number("MESON_EXECUTOR_IDLE_SECS")?.map(Duration::from_secs);
        Ok(Self {
            mesos,
            idle: idle.or(told).unwrap_or(DEFAULT_IDLE),
            cache: get("MESON_CACHE_DIR").map_or_else(|| sandbox.join("cache"), PathBuf::from),
            log_file_bytes: number("MESON_EXECUTOR_LOG_BYTES")?
                .unwrap_or(DEFAULT_LOG_FILE_BYTES)
                .max(MIN_LOG_FILE_BYTES),
            memory: match get(MEMORY) {
                None => Keeping::default(),
                Some(value) => value.parse().map_err(|()| SettingsError::Unknown {
                    name: MEMORY,
                    value,
                })?,
            },
            sandbox,
            instance,
        })
    }

    /// For one attempt without an agent: everything is below `work`, and nothing but our own
    /// variables is read.
    ///
    /// # Errors
    /// One of our own variables cannot be read.
    pub fn alone(
        get: impl Fn(&str) -> Option<String>,
        work: &Path,
        host: &str,
        instance: String,
    ) -> Result<Self, SettingsError> {
        let sandbox = work.display().to_string();
        let told = move |name: &str| match name {
            "MESOS_SANDBOX" => Some(sandbox.clone()),
            "MESOS_SLAVE_ID" => Some(host.to_owned()),
            "MESOS_FRAMEWORK_ID" | "MESOS_EXECUTOR_ID" => Some("alone".to_owned()),
            // Nobody asks for it.
            "MESOS_AGENT_ENDPOINT" => Some("none".to_owned()),
            name if name.starts_with("MESOS_") => None,
            name => get(name),
        };
        Self::read(told, None, instance)
    }

    /// The agent's id; empty if it did not say.
    pub fn agent_id(&self) -> &str {
        self.mesos
            .agent_id
            .as_ref()
            .map(|id| id.as_str())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let base = [
            ("MESOS_AGENT_ENDPOINT", "127.0.0.1:5051"),
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
        ];
        let get = |name: &str| {
            extra
                .iter()
                .chain(&base)
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        Settings::read(get, None, "i".to_owned())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let settings = read(&[("MESOS_SANDBOX", "/s"), ("MESON_EXECUTOR_IDLE_SECS", "3")]).unwrap();
        assert_eq!(settings.idle, Duration::from_secs(3));
        assert_eq!(settings.cache, PathBuf::from("/s/cache"));
        assert_eq!(settings.log_file_bytes, DEFAULT_LOG_FILE_BYTES);
        assert_eq!(settings.agent_id(), "");
        assert_eq!(settings.memory, Keeping::AsTheContainer);
    }

    #[test]
    fn without_an_agent_nothing_of_it_is_asked_for() {
        let get = |name: &str| match name {
            "MESON_CACHE_DIR" => Some("/cache".to_owned()),
            "MESOS_SANDBOX" => Some("/elsewhere".to_owned()),
            _ => None,
        };
        let settings = Settings::alone(get, Path::new("/t/work"), "n1", "i".to_owned()).unwrap();
        assert_eq!(settings.sandbox, Path::new("/t/work"));
        assert_eq!(settings.cache, Path::new("/cache"));
        assert_eq!(settings.agent_id(), "n1");
    }

    #[test]
    fn a_missing_or_unreadable_variable_is_named() {
        assert_eq!(read(&[]).unwrap_err(), SettingsError::NoSandbox);
        let odd = read(&[("MESOS_SANDBOX", "/s"), ("MESON_EXECUTOR_MEMORY", "maybe")]);
        assert!(odd.unwrap_err().to_string().contains("maybe"));
        let bad = read(&[
            ("MESOS_SANDBOX", "/s"),
            ("MESON_EXECUTOR_IDLE_SECS", "soon"),
        ])
        .unwrap_err()
        .to_string();
        assert!(
            bad.contains("MESON_EXECUTOR_IDLE_SECS") && bad.contains("soon"),
            "{bad}"
        );
    }
}
