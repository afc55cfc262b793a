//! COPY's options, with Postgres' defaults and refusals.

use sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption, Ident};

use crate::error::{Result, SqlError, SqlState};
use crate::parser::copy_forces_all_quotes;

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CopyFormat {
    #[default]
    Text,
    Csv,
    Binary,
}

/// Columns named by an option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Columns {
    #[default]
    None,
    All,
    Named(Vec<String>),
}

impl Columns {
    fn of(columns: &[Ident]) -> Self {
        Columns::Named(columns.iter().map(|column| column.value.clone()).collect())
    }

    /// Whether the option holds for each of these columns; 42703 for a name that is not among them.
    pub(super) fn resolve(&self, option: &str, names: &[&str]) -> Result<Vec<bool>> {
        let Columns::Named(columns) = self else { return Ok(vec![*self == Columns::All; names.len()]) };
        if let Some(unknown) = columns.iter().find(|column| !names.contains(&column.as_str())) {
            let message = format!("{option} column \"{unknown}\" not referenced by COPY");
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
        Ok(names.iter().map(|name| columns.iter().any(|column| column == name)).collect())
    }
}

/// All options of one COPY.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// FORMAT
    pub format: CopyFormat,
    /// DELIMITER
    pub delimiter: u8,
    /// NULL: the text that stands for it.
    pub null: String,
    /// HEADER: the first line names the columns.
    pub header: bool,
    /// QUOTE, csv only.
    pub quote: u8,
    /// ESCAPE, csv only.
    pub escape: u8,
    /// FORCE_QUOTE, csv TO only.
    pub force_quote: Columns,
    /// FORCE_NOT_NULL, csv FROM only.
    pub force_not_null: Columns,
    /// FORCE_NULL, csv FROM only.
    pub force_null: Columns,
}

/// Options as they are given, before defaults.
#[derive(Default)]
struct Given {
    format: CopyFormat,
    delimiter: Option<char>,
    null: Option<String>,
    header: Option<bool>,
    quote: Option<char>,
    escape: Option<char>,
    force_quote: Columns,
    force_not_null: Columns,
    force_null: Columns,
    freeze: bool,
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn unavailable(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

/// `None` for text in an encoding that is not UTF-8.
fn is_utf8(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(plain.to_ascii_lowercase().as_str(), "utf8" | "unicode")
}

impl CopyOptions {
    /// The options of a COPY statement; `from`: COPY FROM.
    pub fn of(options: &[CopyOption], legacy: &[CopyLegacyOption], from: bool) -> Result<Self> {
        let mut given = Given::default();
        options.iter().try_for_each(|option| given.add(option))?;
        legacy.iter().try_for_each(|option| given.add_legacy(option))?;
        given.complete(from)
    }
}

impl Given {
    fn add(&mut self, option: &CopyOption) -> Result<()> {
        match option {
            CopyOption::Format(name) => {
                self.format = match name.value.to_ascii_lowercase().as_str() {
                    "text" => CopyFormat::Text,
                    "csv" => CopyFormat::Csv,
                    "binary" => CopyFormat::Binary,
                    _ => return Err(invalid(format!("COPY format \"{}\" not recognized", name.value))),
                }
            }
            CopyOption::Freeze(freeze) => self.freeze = *freeze,
            CopyOption::Delimiter(delimiter) => self.delimiter = Some(*delimiter),
            CopyOption::Null(null) => self.null = Some(null.clone()),
            CopyOption::Header(header) => self.header = Some(*header),
            CopyOption::Quote(quote) => self.quote = Some(*quote),
            CopyOption::Escape(escape) => self.escape = Some(*escape),
            CopyOption::ForceQuote(_) if copy_forces_all_quotes(option) => self.force_quote = Columns::All,
            CopyOption::ForceQuote(columns) => self.force_quote = Columns::of(columns),
            CopyOption::ForceNotNull(columns) => self.force_not_null = Columns::of(columns),
            CopyOption::ForceNull(columns) => self.force_null = Columns::of(columns),
            CopyOption::Encoding(name) if is_utf8(name) => {}
            CopyOption::Encoding(name) => {
                return Err(SqlError::unsupported(format!("COPY in encoding \"{name}\"")));
            }
        }
        Ok(())
    }

    fn add_legacy(&mut self, option: &CopyLegacyOption) -> Result<()> {
        match option {
            CopyLegacyOption::Binary => self.format = CopyFormat::Binary,
            CopyLegacyOption::Delimiter(delimiter) => self.delimiter = Some(*delimiter),
            CopyLegacyOption::Null(null) => self.null = Some(null.clone()),
            CopyLegacyOption::Header => self.header = Some(true),
            CopyLegacyOption::Csv(options) => {
                self.format = CopyFormat::Csv;
                for option in options {
                    match option {
                        CopyLegacyCsvOption::Header => self.header = Some(true),
                        CopyLegacyCsvOption::Quote(quote) => self.quote = Some(*quote),
                        CopyLegacyCsvOption::Escape(escape) => self.escape = Some(*escape),
                        CopyLegacyCsvOption::ForceQuote(columns) => self.force_quote = Columns::of(columns),
                        CopyLegacyCsvOption::ForceNotNull(columns) => self.force_not_null = Columns::of(columns),
                    }
                }
            }
            other => return Err(SqlError::unsupported(format!("COPY option {other}"))),
        }
        Ok(())
    }

    fn complete(self, from: bool) -> Result<CopyOptions> {
        let csv = self.format == CopyFormat::Csv;
        if self.format == CopyFormat::Binary {
            let refused = [("DELIMITER", self.delimiter.is_some()), ("NULL", self.null.is_some())];
            if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
                let message = format!("cannot specify {name} in BINARY mode");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
            if self.header == Some(true) {
                return Err(unavailable("cannot specify HEADER in BINARY mode"));
            }
        }
        let one_byte = |given: Option<char>, default: char, what: &str| {
            u8::try_from(given.unwrap_or(default))
                .ok()
                .filter(u8::is_ascii)
                .ok_or_else(|| unavailable(format!("COPY {what} must be a single one-byte character")))
        };
        let delimiter = one_byte(self.delimiter, if csv { ',' } else { '\t' }, "delimiter")?;
        let quote = one_byte(self.quote, '"', "quote")?;
        let escape = one_byte(self.escape, char::from(quote), "escape")?;
        let null = self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() });
        if matches!(delimiter, b'\r' | b'\n') {
            return Err(invalid("COPY delimiter cannot be newline or carriage return"));
        }
        if null.contains(['\r', '\n']) {
            return Err(invalid("COPY null representation cannot use newline or carriage return"));
        }
        if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(&delimiter) {
            return Err(invalid(format!("COPY delimiter cannot be \"{}\"", char::from(delimiter))));
        }
        let only_in_csv = [
            ("quote", self.quote.is_some()),
            ("escape", self.escape.is_some()),
            ("force quote", self.force_quote != Columns::None),
            ("force not null", self.force_not_null != Columns::None),
            ("force null", self.force_null != Columns::None),
        ];
        if let Some((name, _)) = only_in_csv.iter().find(|(_, given)| *given && !csv) {
            return Err(unavailable(format!("COPY {name} available only in CSV mode")));
        }
        if csv && delimiter == quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        if from && self.force_quote != Columns::None {
            return Err(unavailable("COPY force quote only available using COPY TO"));
        }
        if !from && self.force_not_null != Columns::None {
            return Err(unavailable("COPY force not null only available using COPY FROM"));
        }
        if !from && self.force_null != Columns::None {
            return Err(unavailable("COPY force null only available using COPY FROM"));
        }
        if null.as_bytes().contains(&delimiter) {
            return Err(invalid("COPY delimiter must not appear in the NULL specification"));
        }
        if csv && null.as_bytes().contains(&quote) {
            return Err(invalid("CSV quote character must not appear in the NULL specification"));
        }
        Ok(CopyOptions {
            format: self.format,
            delimiter,
            null,
            header: self.header.unwrap_or(false),
            quote,
            escape,
            force_quote: self.force_quote,
            force_not_null: self.force_not_null,
            force_null: self.force_null,
        })
    }
}
