//! Texts that are not to be printed.

use std::fmt;

/// A password or the like. It is printed nowhere, except by who asks for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who a scheduler is, for a master that wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The name; `FrameworkInfo.principal` has to be the same.
    pub principal: String,
    /// What proves it.
    pub secret: Secret,
}
