//! The beginning of a connection: negotiation, start-up packet, authentication.

use std::sync::OnceLock;

use base64::Engine;
use bytes::{Buf, BytesMut};
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth};
use rand::Rng;
use sha2::{Digest, Sha256};
use sql::error::{SqlError, SqlState};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frontend::{Fields, Malformed};
use super::{backend, limits};

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// What a new connection wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// A session.
    Startup(Startup),
    /// To cancel another session's statement.
    Cancel {
        /// Process number of the session.
        process: u32,
        /// Its secret.
        secret: u32,
    },
    /// Nothing: it was closed.
    Closed,
}

/// A start-up packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Role.
    pub user: String,
    /// Database; the role's name when not given.
    pub database: String,
    /// Settings, in the order given; those of `options` first.
    pub settings: Vec<(String, String)>,
    /// Options named `_pq_.…`, which we do not know.
    pub unknown_options: Vec<String>,
    /// Minor protocol version asked for.
    pub minor_version: u16,
}

/// Why a connection ends before its session begins.
#[derive(Debug)]
pub enum OpeningError {
    /// The client is told.
    Tell(SqlError),
    /// The client has gone.
    Io(std::io::Error),
}

impl From<std::io::Error> for OpeningError {
    fn from(error: std::io::Error) -> Self {
        OpeningError::Io(error)
    }
}

impl From<SqlError> for OpeningError {
    fn from(error: SqlError) -> Self {
        OpeningError::Tell(error)
    }
}

fn violation(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, message)
}

/// Reads until the client has said what it wants. Encryption is declined (`N`).
pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<Opening, OpeningError> {
    // A client asks for SSL once and for GSS once; more is mischief.
    for _ in 0..4 {
        if !fill(stream, input, 4).await? {
            return Ok(Opening::Closed);
        }
        let length = u32::from_be_bytes([input[0], input[1], input[2], input[3]]) as usize;
        if !(8..=limits::STARTUP_PACKET_BYTES).contains(&length) {
            return Err(violation("invalid length of startup packet").into());
        }
        if !fill(stream, input, length).await? {
            return Ok(Opening::Closed);
        }
        let mut packet = input.split_to(length);
        packet.advance(4);
        let code = packet.get_u32();
        match code {
            SSL_REQUEST | GSSENC_REQUEST => {
                if !input.is_empty() {
                    // Bytes sent before the answer could have been injected by somebody in between.
                    return Err(violation("received unencrypted data after SSL request").into());
                }
                stream.write_all(b"N").await?;
            }
            CANCEL_REQUEST if packet.len() == 8 => {
                return Ok(Opening::Cancel { process: packet.get_u32(), secret: packet.get_u32() });
            }
            CANCEL_REQUEST => return Err(violation("invalid length of cancel request packet").into()),
            _ => return parse(code, &packet).map(Opening::Startup).map_err(OpeningError::Tell),
        }
    }
    Err(violation("too many encryption requests").into())
}

/// Buffers until `bytes` are there; false when the client closed.
async fn fill<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut, bytes: usize) -> std::io::Result<bool> {
    while input.len() < bytes {
        if stream.read_buf(input).await? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn parse(version: u32, packet: &[u8]) -> Result<Startup, SqlError> {
    let (major, minor) = ((version >> 16) as u16, version as u16);
    if major != 3 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"),
        ));
    }
    let mut startup = Startup { minor_version: minor, ..Startup::default() };
    let malformed = |error: Malformed| violation(format!("invalid startup packet layout: {error}"));
    let mut fields = Fields { rest: packet };
    loop {
        let name = fields.text().map_err(malformed)?;
        if name.is_empty() {
            break;
        }
        let value = fields.text().map_err(malformed)?;
        match name {
            "user" => startup.user = value.to_owned(),
            "database" => startup.database = value.to_owned(),
            "options" => startup.settings.splice(0..0, parse_options(value)?).for_each(drop),
            "replication" if matches!(value, "false" | "off" | "no" | "0") => {}
            "replication" => return Err(SqlError::unsupported("the replication protocol")),
            _ if name.starts_with("_pq_.") => startup.unknown_options.push(name.to_owned()),
            _ => startup.settings.push((name.to_owned(), value.to_owned())),
        }
    }
    if !fields.rest.is_empty() {
        return Err(violation("invalid startup packet layout: expected terminator as last byte"));
    }
    if startup.user.is_empty() {
        return Err(SqlError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if startup.database.is_empty() {
        startup.database = startup.user.clone();
    }
    Ok(startup)
}

/// `-c name=value` and `--name=value`, words separated by blanks, blanks escaped by backslash.
fn parse_options(options: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        let word = words.last_mut().expect("there is always a last word");
        match character {
            '\\' => word.extend(characters.next()),
            blank if blank.is_whitespace() => words.push(String::new()),
            other => word.push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.as_str() {
            "-c" => words.next(),
            _ => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned),
        };
        let invalid = || {
            SqlError::new(SqlState::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}"))
        };
        let (name, value) = assignment.as_deref().and_then(|text| text.split_once('=')).ok_or_else(invalid)?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// SCRAM-SHA-256 against a stored verifier. A role that is unknown or has no password goes through the
/// same exchange with a made-up verifier, so that the answer tells nothing about which roles exist.
pub async fn authenticate_scram<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    user: &str,
    verifier: Option<&str>,
) -> Result<(), OpeningError> {
    let failed =
        || SqlError::new(SqlState::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""));
    let secret = match verifier.and_then(parse_verifier) {
        Some(secret) => secret,
        None => mock_secret(user),
    };
    let mut out = Vec::new();
    backend::authentication_sasl(&mut out);
    stream.write_all(&out).await?;

    let first = read_password_message(stream, input).await?;
    let mut fields = Fields { rest: &first };
    let malformed = |error: Malformed| violation(format!("malformed SCRAM message: {error}"));
    let mechanism = fields.text().map_err(malformed)?;
    if mechanism != "SCRAM-SHA-256" {
        return Err(violation("client selected an invalid SASL authentication mechanism").into());
    }
    let length = fields.u32().map_err(malformed)? as usize;
    if length != fields.rest.len() {
        return Err(violation("malformed SCRAM message").into());
    }
    let (server_first, waiting) = ScramServerAuth::new()
        .on_client_first_message_with_secret(fields.rest, secret)
        .map_err(|error| violation(format!("malformed SCRAM message: {error}")))?;
    out.clear();
    backend::authentication_sasl_continue(&mut out, &server_first);
    stream.write_all(&out).await?;

    let last = read_password_message(stream, input).await?;
    // A mock secret cannot verify: its stored key is random.
    let server_final = waiting.on_client_final_message(&last).map_err(|_| failed())?;
    out.clear();
    backend::authentication_sasl_final(&mut out, &server_final);
    stream.write_all(&out).await?;
    Ok(())
}

async fn read_password_message<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<BytesMut, OpeningError> {
    let closed = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    if !fill(stream, input, 5).await? {
        return Err(closed().into());
    }
    let length = u32::from_be_bytes([input[1], input[2], input[3], input[4]]) as usize;
    if input[0] != b'p' {
        return Err(violation(format!("expected SASL response, got message type {}", input[0])).into());
    }
    if !(4..=limits::AUTHENTICATION_MESSAGE_BYTES).contains(&length) {
        return Err(violation("invalid message length").into());
    }
    if !fill(stream, input, length + 1).await? {
        return Err(closed().into());
    }
    let mut frame = input.split_to(length + 1);
    frame.advance(5);
    Ok(frame)
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as in `pg_authid.rolpassword`.
fn parse_verifier(text: &str) -> Option<ScramSecret> {
    let (iterations_salt, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = iterations_salt.split_once(':')?;
    let (stored_key, server_key) = keys.split_once(':')?;
    let bytes = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    Some(ScramSecret::Verifier {
        salt: bytes(salt)?,
        iterations: iterations.parse().ok()?,
        stored_key: bytes(stored_key)?,
        server_key: bytes(server_key)?,
    })
}

/// A verifier that no password fits. Its salt is the same each time a name is tried, as a real one's is.
fn mock_secret(user: &str) -> ScramSecret {
    static SEED: OnceLock<[u8; 32]> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a secret must not repeat, also not in tests")]
    let seed = SEED.get_or_init(|| rand::rng().random());
    let derive =
        |purpose: &str| Sha256::new().chain_update(seed).chain_update(purpose).chain_update(user).finalize().to_vec();
    let mut salt = derive("salt");
    salt.truncate(16);
    ScramSecret::Verifier { salt, iterations: 4096, stored_key: derive("stored key"), server_key: derive("server key") }
}
