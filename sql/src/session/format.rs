//! Small vocabulary shared with the wire: value formats, severities, transaction status.

/// Format of a parameter or result column on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i16)]
pub enum Format {
    /// As `psql` prints it.
    #[default]
    Text = 0,
    /// The type's binary representation.
    Binary = 1,
}

impl Format {
    /// The format of column `position`: no code is text for all, one code is for all.
    pub fn of_column(formats: &[Format], position: usize) -> Format {
        match formats {
            [] => Format::Text,
            [all] => *all,
            each => each.get(position).copied().unwrap_or_default(),
        }
    }
}

/// Severity of a message to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Severity {
    Notice,
    Warning,
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// Transaction status of ReadyForQuery; discriminants are the bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TransactionStatus {
    /// Outside a transaction block.
    Idle = b'I',
    /// In a transaction block.
    InTransaction = b'T',
    /// In a failed one: only its end is accepted.
    Failed = b'E',
}
