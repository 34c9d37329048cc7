//! Whether a framework may subscribe with the roles it names, in the real master's words
//! (`src/common/roles.cpp`, `src/master/validation.cpp`, and what the real one answered).

use meson_mesos::types::{CapabilityType, FrameworkInfo};
use std::collections::BTreeSet;

/// Checks a role.
pub(super) fn validate(role: &str) -> Result<(), String> {
    if role == "*" {
        return Ok(());
    }
    if role.is_empty() {
        return Err("Empty role name is invalid".to_owned());
    }
    if role.starts_with('/') {
        return Err(format!("Role '{role}' cannot start with a slash"));
    }
    if role.ends_with('/') {
        return Err(format!("Role '{role}' cannot end with a slash"));
    }
    for component in role.split('/') {
        match component {
            "" => return Err(format!("Role '{role}' cannot contain two adjacent slashes")),
            "." | ".." => {
                return Err(format!(
                    "Role '{role}' cannot include '{component}' as a component"
                ));
            }
            "*" => return Err(format!("Role '{role}' cannot include '*' as a component")),
            _ => {}
        }
        if component.starts_with('-') {
            return Err(format!(
                "Role component '{component}' is invalid because it begins with a dash"
            ));
        }
        if component.chars().any(|c| c.is_whitespace() || c == '\u{8}') {
            return Err(format!(
                "Role component '{component}' is invalid because it contains backspace or whitespace"
            ));
        }
    }
    Ok(())
}

/// Checks what a SUBSCRIBE or UPDATE_FRAMEWORK says about the framework.
pub(super) fn validate_framework(
    info: &FrameworkInfo,
    suppressed: &[String],
) -> Result<(), String> {
    if info.can(&CapabilityType::MultiRole) {
        if info.role.is_some() {
            return Err(
                "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
                    .to_owned(),
            );
        }
        if info.roles.iter().collect::<BTreeSet<_>>().len() != info.roles.len() {
            return Err("'FrameworkInfo.roles' contains duplicate items".to_owned());
        }
        for role in &info.roles {
            validate(role)
                .map_err(|error| format!("'FrameworkInfo.roles' contains invalid role: {error}"))?;
        }
    } else {
        if !info.roles.is_empty() {
            return Err("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".to_owned());
        }
        if let Some(role) = &info.role {
            validate(role)
                .map_err(|error| format!("'FrameworkInfo.role' is not a valid role: {error}"))?;
        }
    }
    // Durations of Mesos are nanoseconds in 64 bits with a sign.
    if let Some(seconds) = info.failover_timeout
        && (seconds.is_nan() || seconds.abs() >= 9_223_372_036.0)
    {
        let shown = if seconds.is_finite() {
            format!("{seconds:e}").replace('e', "e+")
        } else {
            seconds.to_string()
        };
        return Err(format!(
            "The framework failover_timeout ({shown}) is invalid"
        ));
    }
    let roles = info.effective_roles();
    let strange: Vec<&str> = suppressed
        .iter()
        .filter(|role| !roles.contains(role))
        .map(String::as_str)
        .collect();
    if !strange.is_empty() {
        return Err(format!(
            "Suppressed roles {{ {} }} are not contained in the set of roles",
            strange.join(", ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_refused_in_the_real_masters_words() {
        assert_eq!(
            validate("a/../b").unwrap_err(),
            "Role 'a/../b' cannot include '..' as a component"
        );
        assert!(
            validate("a b")
                .unwrap_err()
                .contains("backspace or whitespace")
        );
        for bad in ["", "/a", "a/", "a//b", "a/*", "-a", "."] {
            assert!(validate(bad).is_err(), "{bad}");
        }
        for good in ["*", "a", "a/b", "eng-1", "a.b"] {
            assert!(validate(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn an_absurd_failover_timeout_is_refused() {
        let info = FrameworkInfo {
            failover_timeout: Some(1e300),
            ..FrameworkInfo::default()
        };
        assert_eq!(
            validate_framework(&info, &[]).unwrap_err(),
            "The framework failover_timeout (1e+300) is invalid"
        );
        let info = FrameworkInfo {
            failover_timeout: Some(-1.0),
            ..FrameworkInfo::default()
        };
        assert!(validate_framework(&info, &[]).is_ok());
    }

    #[test]
    fn suppressed_roles_must_be_the_frameworks_own() {
        let error = validate_framework(&FrameworkInfo::default(), &["other".into()]).unwrap_err();
        assert_eq!(
            error,
            "Suppressed roles { other } are not contained in the set of roles"
        );
    }
}
