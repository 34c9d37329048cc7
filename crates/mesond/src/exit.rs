//! With which code the process ends: service managers start it again unless that would not help.

use std::io::ErrorKind;

use meson_certs::CertError;
use meson_consensus::OpenError;

use crate::config::ConfigError;

/// It failed; it may do better when it is started again.
const FAILED: u8 = 1;
/// The configuration, or what it names, is wrong: `RestartPreventExitStatus=2` in the service unit.
const WRONG: u8 = 2;

/// The exit code for this.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    if is_configured_wrong(error) {
        WRONG
    } else {
        FAILED
    }
}

/// Whether somebody has to change something first: the configuration, the certificate, the secret,
/// the store's address, or which data folder it is.
fn is_configured_wrong(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        // A machine that starts may not know the time yet.
        || matches!(error.downcast_ref(), Some(cert) if !matches!(cert, CertError::NotValidYet { .. }))
        || matches!(
            error.downcast_ref(),
            Some(meson_artifacts::Error::Config { .. })
        )
        || matches!(
            error.downcast_ref(),
            Some(
                OpenError::Options { .. }
                    | OpenError::OtherCluster { .. }
                    | OpenError::OtherNode { .. }
                    | OpenError::OtherShards { .. }
                    | OpenError::NewerFormat { .. }
            )
        )
        || error.chain().any(is_forbidden)
}

/// What the system does not let us do now, it will not let us do in a second.
fn is_forbidden(cause: &(dyn std::error::Error + 'static)) -> bool {
    let kind = cause.downcast_ref().map(std::io::Error::kind);
    matches!(
        kind,
        Some(ErrorKind::PermissionDenied | ErrorKind::NotADirectory)
    )
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn data_of_another_node() -> OpenError {
        OpenError::OtherNode {
            dir: "data".into(),
            expected: meson_consensus::NodeId::new(1),
            found: meson_consensus::NodeId::new(2),
        }
    }

    #[test]
    fn what_a_restart_cannot_mend_is_2_whatever_is_said_around_it() {
        let wrong = Err::<(), _>(data_of_another_node());
        let wrong = wrong.context("cannot open data").unwrap_err();
        assert_eq!(code(&wrong), WRONG);
        let forbidden = std::io::Error::from(ErrorKind::PermissionDenied);
        let forbidden = anyhow::Error::new(forbidden).context("cannot make the data folder");
        assert_eq!(code(&forbidden), WRONG);
        let store = meson_artifacts::Error::Config {
            url: "x".to_owned(),
            problem: "no URL".to_owned(),
        };
        assert_eq!(code(&store.into()), WRONG);
        let (path, remedy) = ("certs/node.pem".into(), "copy it again");
        assert_eq!(code(&CertError::Missing { path, remedy }.into()), WRONG);
    }

    #[test]
    fn what_may_be_over_soon_is_1() {
        let locked = OpenError::Locked { dir: "data".into() };
        assert_eq!(code(&locked.into()), FAILED);
        let taken = std::io::Error::from(ErrorKind::AddrInUse);
        assert_eq!(code(&taken.into()), FAILED);
        assert_eq!(code(&anyhow::anyhow!("its storage is gone")), FAILED);
        let path = "certs/node.pem".into();
        assert_eq!(code(&CertError::NotValidYet { path }.into()), FAILED);
    }
}
