//! Bounds of the front end, in bytes and counts. Each is checked before anything is allocated for it.

use std::time::Duration;

/// Start-up packet, as in Postgres.
pub const STARTUP_PACKET_BYTES: usize = 10_000;
/// Any message before authentication has ended (Postgres' `PG_MAX_AUTH_TOKEN_LENGTH` is of this order).
pub const AUTHENTICATION_MESSAGE_BYTES: usize = 16 * 1024;
/// Messages that carry no user data.
pub const SMALL_MESSAGE_BYTES: usize = 64 * 1024;
/// Messages that carry statements or values: a value may have 256 MiB, and be written as hexadecimal.
pub const LARGE_MESSAGE_BYTES: usize = 640 * 1024 * 1024;
/// While more than this is missing of a Bind message, its values are looked at by their announced lengths.
pub const LARGE_VALUE_BYTES: usize = 16 * 1024 * 1024;
/// Time to authenticate.
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Output buffered before it is written to the socket.
pub const OUTPUT_FLUSH_BYTES: usize = 64 * 1024;
/// Room for one read while COPY takes data.
pub const COPY_READ_BYTES: usize = 128 * 1024;
/// Capacity that an idle connection keeps in each of its two buffers.
pub const IDLE_BUFFER_BYTES: usize = 32 * 1024;

const _: () = assert!(STARTUP_PACKET_BYTES < AUTHENTICATION_MESSAGE_BYTES);
const _: () = assert!(OUTPUT_FLUSH_BYTES < LARGE_MESSAGE_BYTES);
