//! Why a command ended without success.

/// How a command that did not succeed ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CtlError {
    /// Shown as `Error: ...`.
    Told(String),
    /// The command line is wrong; shown as [`CtlError::Told`], ends with 2.
    Usage(String),
    /// The cluster said no; that was printed already.
    Refused,
    /// It did not work for somebody; that was printed already.
    Failed,
    /// A question was not answered.
    Aborted,
}

impl CtlError {
    /// With this text.
    pub(crate) fn told(text: impl ToString) -> CtlError {
        CtlError::Told(text.to_string())
    }
}

impl From<std::io::Error> for CtlError {
    fn from(cause: std::io::Error) -> CtlError {
        match cause.kind() {
            // The reader of a pipe has seen enough.
            std::io::ErrorKind::BrokenPipe => CtlError::Refused,
            _ => CtlError::told(cause),
        }
    }
}
