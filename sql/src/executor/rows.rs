//! Rows set aside: in memory up to a limit, in a temporary file beyond.
//!
//! A temporary file has no name once it is open, so nothing is left behind however the process ends. Each row
//! is written as the number of its values, then per value a tag byte, a length and the bytes of
//! [`encode_value`].

use std::borrow::BorrowMut;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hash::row_bytes;
use crate::error::{Result, SqlError, SqlState};
use crate::types::codec::{decode_value, encode_value};
use crate::types::{Array, DataType, Datum, Row};

/// Buffer of one open run, bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Makes file names unique within the process.
static NEXT_FILE: AtomicU64 = AtomicU64::new(0);

fn failed(error: std::io::Error) -> SqlError {
    let state = if error.kind() == std::io::ErrorKind::StorageFull { SqlState::DISK_FULL } else { SqlState::IO_ERROR };
    SqlError::new(state, format!("could not use a temporary file: {error}"))
}

/// A temporary file that grows by runs of rows.
pub(super) struct SpillFile {
    file: Arc<File>,
    end: u64,
}

impl SpillFile {
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let number = NEXT_FILE.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("rows-{}-{number}.tmp", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
        std::fs::remove_file(&path).map_err(failed)?;
        Ok(Self { file: Arc::new(file), end: 0 })
    }

    /// Begins a run at the end of the file.
    pub(super) fn begin(&mut self) -> RunWriter<&mut SpillFile> {
        let start = self.end;
        RunWriter { file: self, start, buffer: Vec::new(), rows: 0 }
    }

    /// Begins the only run of the file.
    pub(super) fn into_run(self) -> RunWriter<SpillFile> {
        RunWriter { start: self.end, file: self, buffer: Vec::new(), rows: 0 }
    }
}

/// Appends a run of rows to a file.
pub(super) struct RunWriter<F> {
    file: F,
    start: u64,
    buffer: Vec<u8>,
    rows: u64,
}

impl<F: BorrowMut<SpillFile>> RunWriter<F> {
    pub(super) fn push(&mut self, row: &[Datum]) -> Result<()> {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 8]);
        self.buffer.extend_from_slice(&(row.len() as u32).to_le_bytes());
        for datum in row {
            write_tagged(datum, &mut self.buffer);
        }
        let length = (self.buffer.len() - at - 8) as u64;
        self.buffer[at..at + 8].copy_from_slice(&length.to_le_bytes());
        self.rows += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let file = self.file.borrow_mut();
        file.file.write_all_at(&self.buffer, file.end).map_err(failed)?;
        file.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Run> {
        self.flush()?;
        Ok(Run { file: Arc::clone(&self.file.borrow().file), start: self.start, rows: self.rows })
    }
}

/// A run of rows in a temporary file.
#[derive(Clone)]
pub(super) struct Run {
    file: Arc<File>,
    start: u64,
    rows: u64,
}

impl Run {
    /// Reads it from its start.
    pub(super) fn read(&self) -> RunReader {
        let at = FileAt { file: Arc::clone(&self.file), offset: self.start };
        RunReader { reader: BufReader::with_capacity(BUFFER_BYTES, at), left: self.rows, scratch: Vec::new() }
    }
}

/// A file read from an offset of its own: many readers can share one file.
struct FileAt {
    file: Arc<File>,
    offset: u64,
}

impl Read for FileAt {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

pub(super) struct RunReader {
    reader: BufReader<FileAt>,
    left: u64,
    scratch: Vec<u8>,
}

impl RunReader {
    /// Replaces `out` by the next row; false at the end.
    pub(super) fn next(&mut self, out: &mut Row) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let mut length = [0; 8];
        self.reader.read_exact(&mut length).map_err(failed)?;
        self.scratch.resize(u64::from_le_bytes(length) as usize, 0);
        self.reader.read_exact(&mut self.scratch).map_err(failed)?;
        out.clear();
        let mut rest = self.scratch.as_slice();
        let count = take_u32(&mut rest)?;
        for _ in 0..count {
            out.push(read_tagged(&mut rest)?);
        }
        Ok(true)
    }
}

#[cold]
fn damaged() -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, "a temporary file is damaged")
}

fn take_u32(rest: &mut &[u8]) -> Result<u32> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    *rest = tail;
    Ok(u32::from_le_bytes(*head))
}

/// What each tag of a scalar stands for; arrays and records have tags of their own.
const SCALARS: [DataType; 20] = [
    DataType::BOOL,
    DataType::INT2,
    DataType::INT4,
    DataType::INT8,
    DataType::FLOAT4,
    DataType::FLOAT8,
    DataType::NUMERIC,
    DataType::TEXT,
    DataType::BPCHAR,
    DataType::BYTEA,
    DataType::DATE,
    DataType::TIME,
    DataType::TIMESTAMP,
    DataType::TIMESTAMPTZ,
    DataType::INTERVAL,
    DataType::UUID,
    DataType::JSON,
    DataType::JSONB,
    DataType::OID,
    DataType::PG_LSN,
];

/// Position in [`SCALARS`] of a value's type.
fn scalar_tag(value: &Datum) -> u8 {
    match value {
        Datum::Bool(_) => 0,
        Datum::Int2(_) => 1,
        Datum::Int4(_) => 2,
        Datum::Int8(_) => 3,
        Datum::Float4(_) => 4,
        Datum::Float8(_) => 5,
        Datum::Numeric(_) => 6,
        Datum::Text(_) => 7,
        Datum::Bpchar(_) => 8,
        Datum::Bytea(_) => 9,
        Datum::Date(_) => 10,
        Datum::Time(_) => 11,
        Datum::Timestamp(_) => 12,
        Datum::Timestamptz(_) => 13,
        Datum::Interval(_) => 14,
        Datum::Uuid(_) => 15,
        Datum::Json(_) => 16,
        Datum::Jsonb(_) => 17,
        Datum::Oid(_) => 18,
        Datum::PgLsn(_) => 19,
        Datum::Null | Datum::Array(_) | Datum::Record(_) => unreachable!("{value:?} is not a scalar"),
    }
}

const TAG_NULL: u8 = 29;
const TAG_ARRAY: u8 = 30;
const TAG_RECORD: u8 = 31;

fn write_tagged(datum: &Datum, out: &mut Vec<u8>) {
    match datum {
        Datum::Null => out.push(TAG_NULL),
        Datum::Record(fields) => {
            out.push(TAG_RECORD);
            out.extend_from_slice(&(fields.len() as u32).to_le_bytes());
            fields.iter().for_each(|field| write_tagged(field, out));
        }
        Datum::Array(array) => {
            out.push(TAG_ARRAY);
            let element = serde_json::to_vec(&array.element).expect("a type always has a JSON form");
            out.extend_from_slice(&(element.len() as u32).to_le_bytes());
            out.extend_from_slice(&element);
            out.extend_from_slice(&(array.dimensions.len() as u32).to_le_bytes());
            for (length, lower) in &array.dimensions {
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&lower.to_le_bytes());
            }
            out.extend_from_slice(&(array.elements.len() as u32).to_le_bytes());
            array.elements.iter().for_each(|element| write_tagged(element, out));
        }
        value => {
            out.push(scalar_tag(value));
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            encode_value(value, out);
            let length = (out.len() - at - 4) as u32;
            out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
    }
}

fn read_tagged(rest: &mut &[u8]) -> Result<Datum> {
    let (tag, tail) = rest.split_first().ok_or_else(damaged)?;
    *rest = tail;
    match *tag {
        TAG_NULL => Ok(Datum::Null),
        TAG_RECORD => {
            let count = take_u32(rest)?;
            Ok(Datum::Record((0..count).map(|_| read_tagged(rest)).collect::<Result<Vec<_>>>()?.into()))
        }
        TAG_ARRAY => {
            let length = take_u32(rest)? as usize;
            let (element, tail) = rest.split_at_checked(length).ok_or_else(damaged)?;
            *rest = tail;
            let element: DataType = serde_json::from_slice(element).map_err(|_| damaged())?;
            let count = take_u32(rest)?;
            let dimensions = (0..count).map(|_| Ok((take_u32(rest)?, take_u32(rest)? as i32)));
            let dimensions = dimensions.collect::<Result<Vec<_>>>()?;
            let count = take_u32(rest)?;
            let elements = (0..count).map(|_| read_tagged(rest)).collect::<Result<Vec<_>>>()?;
            Ok(Datum::Array(Arc::new(Array { element, dimensions, elements })))
        }
        tag => {
            let data_type = SCALARS.get(usize::from(tag)).ok_or_else(damaged)?;
            let length = take_u32(rest)? as usize;
            let (bytes, tail) = rest.split_at_checked(length).ok_or_else(damaged)?;
            *rest = tail;
            decode_value(*data_type, bytes)
        }
    }
}

/// Rows in the order in which they were added, to be read any number of times from any position.
pub(super) struct RowBuffer {
    limit_bytes: usize,
    directory: Arc<Path>,
    /// The rows, or (once spilled) those added since the last run was written.
    memory: Vec<Row>,
    memory_bytes: usize,
    file: Option<SpillFile>,
    /// Spilled rows, each run with the number of its first row.
    runs: Vec<(usize, Run)>,
    spilled: usize,
}

impl RowBuffer {
    pub(super) fn new(limit_bytes: usize, directory: &Arc<Path>) -> Self {
        Self {
            limit_bytes,
            directory: Arc::clone(directory),
            memory: Vec::new(),
            memory_bytes: 0,
            file: None,
            runs: Vec::new(),
            spilled: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.spilled + self.memory.len()
    }

    pub(super) fn push(&mut self, row: Row) -> Result<()> {
        self.memory_bytes += row_bytes(&row);
        self.memory.push(row);
        if self.memory_bytes > self.limit_bytes {
            let file = match &mut self.file {
                Some(file) => file,
                empty => empty.insert(SpillFile::new(&self.directory)?),
            };
            let mut run = file.begin();
            self.memory.iter().try_for_each(|row| run.push(row))?;
            self.runs.push((self.spilled, run.finish()?));
            self.spilled += self.memory.len();
            self.memory.clear();
            self.memory_bytes = 0;
        }
        Ok(())
    }
}

/// A reader's place in a [`RowBuffer`], which may grow meanwhile.
#[derive(Default)]
pub(super) struct RowPosition {
    next: usize,
    reader: Option<(usize, RunReader)>,
}

impl RowPosition {
    /// Replaces `out` by the next row; false when all rows there are have been read.
    pub(super) fn next(&mut self, buffer: &RowBuffer, out: &mut Row) -> Result<bool> {
        if self.next >= buffer.len() {
            return Ok(false);
        }
        if self.next >= buffer.spilled {
            out.clone_from(&buffer.memory[self.next - buffer.spilled]);
            self.next += 1;
            self.reader = None;
            return Ok(true);
        }
        let run = buffer.runs.partition_point(|(first, _)| *first <= self.next) - 1;
        let (first, file) = &buffer.runs[run];
        if self.reader.as_ref().is_none_or(|(open, _)| *open != run) {
            let mut reader = file.read();
            for _ in *first..self.next {
                reader.next(out)?;
            }
            self.reader = Some((run, reader));
        }
        self.next += 1;
        self.reader.as_mut().expect("opened above").1.next(out)
    }
}
