//! Messages of the server, protocol 3.0, appended to an output buffer.

use bytes::BufMut;
use sql::error::{ErrorFields, SqlError};
use sql::plan::OutputColumn;
use sql::session::{Format, Severity, TransactionStatus};
use sql::types::DataType;

/// Appends a message: type byte, length, and whatever `body` appends.
pub fn message(out: &mut Vec<u8>, message_type: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.put_u8(message_type);
    let length_at = out.len();
    out.put_u32(0);
    body(out);
    finish(out, length_at);
}

/// Fills in the length of the message whose length field stands at `length_at`.
pub fn finish(out: &mut [u8], length_at: usize) {
    let length = u32::try_from(out.len() - length_at).expect("limits keep messages below 4 GiB");
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    // A zero byte would end the field early and shift all that follows.
    out.extend(text.bytes().map(|byte| if byte == 0 { b' ' } else { byte }));
    out.put_u8(0);
}

macro_rules! empty_messages {
    ($($(#[$doc:meta])* $name:ident = $type:literal),* $(,)?) => {
        $($(#[$doc])*
        pub fn $name(out: &mut Vec<u8>) {
            out.put_slice(&[$type, 0, 0, 0, 4]);
        })*
    };
}

empty_messages! {
    /// ParseComplete
    parse_complete = b'1',
    /// BindComplete
    bind_complete = b'2',
    /// CloseComplete
    close_complete = b'3',
    /// NoData
    no_data = b'n',
    /// PortalSuspended
    portal_suspended = b's',
    /// EmptyQueryResponse
    empty_query = b'I',
    /// CopyDone
    copy_done = b'c',
}

/// AuthenticationOk
pub fn authentication_ok(out: &mut Vec<u8>) {
    message(out, b'R', |out| out.put_u32(0));
}

/// AuthenticationSASL with the one mechanism offered.
pub fn authentication_sasl(out: &mut Vec<u8>) {
    message(out, b'R', |out| {
        out.put_u32(10);
        text(out, "SCRAM-SHA-256");
        out.put_u8(0);
    });
}

/// AuthenticationSASLContinue
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &str) {
    message(out, b'R', |out| {
        out.put_u32(11);
        out.put_slice(data.as_bytes());
    });
}

/// AuthenticationSASLFinal
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &str) {
    message(out, b'R', |out| {
        out.put_u32(12);
        out.put_slice(data.as_bytes());
    });
}

/// ParameterStatus
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// BackendKeyData
pub fn backend_key_data(out: &mut Vec<u8>, process: u32, secret: u32) {
    message(out, b'K', |out| {
        out.put_u32(process);
        out.put_u32(secret);
    });
}

/// NegotiateProtocolVersion: 3.0 is what we speak; options not understood are named.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, unknown_options: &[String]) {
    message(out, b'v', |out| {
        out.put_u32(3 << 16);
        out.put_u32(u32::try_from(unknown_options.len()).expect("a start-up packet holds few options"));
        unknown_options.iter().for_each(|option| text(out, option));
    });
}

/// ReadyForQuery
pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status as u8]);
}

/// CommandComplete
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

/// ParameterDescription
pub fn parameter_description(out: &mut Vec<u8>, types: &[DataType]) {
    message(out, b't', |out| {
        out.put_u16(u16::try_from(types.len()).expect("statements have at most 65535 parameters"));
        types.iter().for_each(|data_type| out.put_u32(data_type.oid()));
    });
}

/// RowDescription. `formats` as in Bind: none is all text, one is for all.
pub fn row_description(out: &mut Vec<u8>, columns: &[OutputColumn], formats: &[Format]) {
    message(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).expect("the binder bounds result columns"));
        for (position, column) in columns.iter().enumerate() {
            text(out, &column.name);
            let (table, attribute) = column.origin.unwrap_or((0, 0));
            out.put_u32(table);
            out.put_i16(attribute);
            out.put_u32(column.data_type.oid());
            out.put_i16(column.data_type.length());
            out.put_i32(column.data_type.modifier);
            out.put_i16(Format::of_column(formats, position) as i16);
        }
    });
}

/// CopyInResponse (`G`) or CopyOutResponse (`H`) of `columns` columns.
pub fn copy_response(out: &mut Vec<u8>, message_type: u8, columns: usize, binary: bool) {
    message(out, message_type, |out| {
        out.put_u8(u8::from(binary));
        out.put_u16(u16::try_from(columns).expect("tables have at most 1600 columns"));
        (0..columns).for_each(|_| out.put_u16(u16::from(binary)));
    });
}

/// ErrorResponse
pub fn error(out: &mut Vec<u8>, severity: Severity, error: &SqlError) {
    message(out, b'E', |out| fields(out, severity, error.fields()));
}

/// NoticeResponse
pub fn notice(out: &mut Vec<u8>, severity: Severity, notice: &ErrorFields) {
    message(out, b'N', |out| fields(out, severity, notice));
}

fn fields(out: &mut Vec<u8>, severity: Severity, fields: &ErrorFields) {
    let mut field = |name: u8, value: &str| {
        out.put_u8(name);
        text(out, value);
    };
    field(b'S', severity.as_str());
    field(b'V', severity.as_str());
    field(b'C', fields.state.0);
    field(b'M', &fields.message);
    let optional = [
        (b'D', &fields.detail),
        (b'H', &fields.hint),
        (b'W', &fields.context),
        (b's', &fields.schema),
        (b't', &fields.table),
        (b'c', &fields.column),
        (b'n', &fields.constraint),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            field(name, value);
        }
    }
    if let Some(position) = fields.position {
        field(b'P', &position.to_string());
    }
    out.put_u8(0);
}
