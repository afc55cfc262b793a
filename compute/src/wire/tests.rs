//! Frames of any content decode to a message or an error, never to a panic.

use proptest::prelude::*;

use super::frontend::{Frontend, Malformed, Target, decode};

#[test]
fn messages_decode() {
    let cases: &[(u8, &[u8], Frontend<'_>)] = &[
        (b'Q', b"SELECT 1\0", Frontend::Query("SELECT 1")),
        (
            b'P',
            b"s\0SELECT $1\0\0\x01\0\0\0\x17",
            Frontend::Parse { statement: "s", query: "SELECT $1", parameter_types: vec![23] },
        ),
        (b'D', b"Sname\0", Frontend::Describe { target: Target::Statement, name: "name" }),
        (b'C', b"P\0", Frontend::Close { target: Target::Portal, name: "" }),
        (b'E', b"\0\0\0\0\x05", Frontend::Execute { portal: "", max_rows: 5 }),
        (b'S', b"", Frontend::Sync),
        (b'd', b"\xFFraw", Frontend::CopyData(b"\xFFraw")),
    ];
    for (message_type, body, wanted) in cases {
        assert_eq!(decode(*message_type, body).as_ref(), Ok(wanted), "{}", char::from(*message_type));
    }
}

#[test]
fn malformed_messages_are_refused() {
    let cases: &[(u8, &[u8], Malformed)] = &[
        (b'Q', b"SELECT 1", Malformed::Unterminated),
        (b'Q', b"a\0b", Malformed::Trailing),
        (b'Q', b"a\xC3\x28\0", Malformed::NotUtf8("0xc3".to_owned())),
        (b'S', b"x", Malformed::Trailing),
        (b'P', b"\0a\0\xFF\xFF", Malformed::Short),
        (b'B', b"\0\0\0\x01\0\x02\0\0\0\0", Malformed::Invalid("unsupported format code")),
        (b'B', b"\0\0\0\0\0\x01\xFF\xFF\xFF\xFE\0\0", Malformed::Invalid("invalid parameter length")),
        (b'z', b"", Malformed::UnknownType(b'z')),
    ];
    for (message_type, body, wanted) in cases {
        assert_eq!(decode(*message_type, body).as_ref(), Err(wanted), "{}", char::from(*message_type));
    }
}

proptest! {
    #[test]
    fn any_frame_is_survived(message_type: u8, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(message_type, &body);
    }
}
