//! Sends what raft-rs logs through slog to tracing.

use std::fmt::Write as _;

use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, o};

struct TracingDrain;

/// Appends ` key=value` pairs.
struct Fields(String);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}

impl Drain for TracingDrain {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        // slog's macros do not ask: raft-rs describes every message, which costs more than handling it.
        if !self.is_enabled(record.level()) {
            return Ok(());
        }
        let mut fields = Fields(record.msg().to_string());
        let _ = record.kv().serialize(record, &mut fields);
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", fields.0),
            Level::Warning => tracing::warn!(target: "raft", "{}", fields.0),
            _ => tracing::debug!(target: "raft", "{}", fields.0),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.is_at_least(Level::Info)
            && (level.is_at_least(Level::Warning) || tracing::enabled!(target: "raft", tracing::Level::DEBUG))
    }
}

pub(super) fn logger() -> Logger {
    Logger::root(TracingDrain.fuse(), o!())
}
