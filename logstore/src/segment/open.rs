//! Opening the log: what was durable is found again, a torn tail is cut, anything else that does not fit is an error.
//!
//! Only the last segment is read, and the end of the one before it where the checkpoint reaches back. So the time to
//! open does not depend on the length of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Entry, HardState};

use super::checkpoint::Checkpoint;
use super::format::{Damage, RECORD_ALIGNMENT_BYTES, RecordKind};
use super::reader::to_entry;
use super::set::{Segment, SegmentSet};
use super::spare::{SPARE_NAME, Spare};
use super::writer::{FLAG_RESTARTED, Location, SegmentConfig, SegmentLog, new_segment};
use super::{MIN_SEGMENT_BYTES, ReadStop, SEGMENT_ALIGNMENT_BYTES, StoreError, file_name, parse_file_name};
use crate::core::TermRuns;
use crate::disk::Disk;
use crate::identity::node_id;
use crate::machine::StateMachine;

/// What the files hold.
pub struct Recovered {
    /// Ready to append.
    pub log: SegmentLog,
    /// State as of the last checkpoint; `tail` is not applied to it yet.
    pub checkpoint: Checkpoint,
    /// Entries after the checkpoint.
    pub tail: Vec<Entry>,
    /// Terms from the log's beginning to the last entry.
    pub terms: TermRuns,
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// Where the log begins: older entries are gone.
    pub start: Checkpoint,
    /// Bytes cut off as a torn tail.
    pub torn_bytes: u64,
    /// Whose log it is.
    pub raft_id: u64,
}

/// State of the scan.
struct Scan {
    checkpoint: Checkpoint,
    tail: VecDeque<(Entry, Location)>,
    terms: TermRuns,
    hard_state: HardState,
    since_checkpoint_bytes: u64,
    sealed: bool,
    /// The last record is a mark.
    marked: bool,
    end_offset: u64,
    head_bytes: u64,
}

impl SegmentLog {
    /// Opens the log in `disk`, or begins one whose members are `voters`: none for a node that is to join a cluster.
    pub fn open(
        disk: Arc<dyn Disk>,
        mut config: SegmentConfig,
        spare: Arc<Spare>,
        voters: &[u64],
    ) -> Result<Recovered, StoreError> {
        let io = |doing| StoreError::io(&*disk, doing);
        let names = disk.list().map_err(io("listing segments"))?;
        if names.iter().any(|name| name == SPARE_NAME) {
            disk.remove(SPARE_NAME).map_err(io("removing the spare segment"))?;
        }
        let mut sequences: Vec<u64> = names.iter().filter_map(|name| parse_file_name(name)).collect();
        sequences.sort_unstable();
        for pair in sequences.windows(2) {
            if pair[0] + 1 != pair[1] {
                return Err(StoreError::corrupt(&*disk, pair[0] + 1, 0, "the segment is missing"));
            }
        }
        let mut segments = Vec::new();
        for &sequence in &sequences {
            let file = disk.open(&file_name(sequence)).map_err(io("opening a segment"))?;
            let length_bytes = file.length_bytes().map_err(io("opening a segment"))?;
            // Made at full size before it got its name: a shorter one has lost what was in it.
            if length_bytes < MIN_SEGMENT_BYTES || !length_bytes.is_multiple_of(SEGMENT_ALIGNMENT_BYTES) {
                let reason = format!("the segment has {length_bytes} bytes: it was cut short");
                return Err(StoreError::corrupt(&*disk, sequence, length_bytes, reason));
            }
            segments.push(Segment::new(sequence, length_bytes, file, None));
        }
        // The one that was prepared, and the one that had just begun.
        let _ = drop_unfinished(&disk, &mut segments)? && drop_unfinished(&disk, &mut segments)?;
        if segments.is_empty() {
            return begin(disk, config, spare, voters);
        }
        config.raft_id = remove_before_restart(&disk, &config, &mut segments)?;
        let forgotten_bytes = drop_unsettled(&disk, &mut segments)?;
        let mut recovered = recover(disk, config, spare, segments)?;
        recovered.torn_bytes += forgotten_bytes;
        Ok(recovered)
    }
}

/// A last segment without a head was not begun when the machine stopped, unless something was durable behind it. True if
/// there was one.
fn drop_unfinished(disk: &Arc<dyn Disk>, segments: &mut Vec<Arc<Segment>>) -> Result<bool, StoreError> {
    let Some(last) = segments.last() else { return Ok(false) };
    let mut reader = last.reader_at(0);
    let mut damaged = None;
    for expected in [RecordKind::Header, RecordKind::Checkpoint, RecordKind::HardState] {
        match reader.next() {
            Ok(record) if record.header.kind == expected => {}
            Ok(record) => {
                return Err(StoreError::corrupt(&**disk, last.sequence(), record.offset, "unexpected record"));
            }
            Err(ReadStop::Io(source)) => return Err(StoreError::io(&**disk, "reading a segment")(source)),
            Err(ReadStop::Damaged { offset, damage }) => {
                refuse_newer(disk, last.sequence(), offset, damage)?;
                damaged = Some((offset, damage));
                break;
            }
        }
    }
    let Some((offset, damage)) = damaged else { return Ok(false) };
    check_torn(disk, last, offset, damage)?;
    if segments.len() == 1 && last.sequence() > 1 {
        return Err(StoreError::corrupt(&**disk, last.sequence(), offset, damage));
    }
    disk.remove(&file_name(last.sequence())).map_err(StoreError::io(&**disk, "removing an unfinished segment"))?;
    segments.pop();
    Ok(true)
}

/// The last segment may have begun before the end of the one before it was durable; then nothing in it has counted yet, and
/// if that end was lost, it goes. Returns how many bytes went.
fn drop_unsettled(disk: &Arc<dyn Disk>, segments: &mut Vec<Arc<Segment>>) -> Result<u64, StoreError> {
    let [.., before, last] = &segments[..] else { return Ok(0) };
    let io = |doing| StoreError::io(&**disk, doing);
    let mut records = last.reader_at(0);
    while let Some(record) = records.resynchronize().map_err(io("reading a segment"))? {
        if record.header.synced_bytes > 0 {
            // It counted: what is wrong with the one before is damage.
            return Ok(0);
        }
    }
    if is_complete(disk, before)? {
        // The process may have died before this was synced, and the machine not.
        before.file().sync().map_err(io("syncing a segment"))?;
        return Ok(0);
    }
    let bytes = last.reader_at(0).end_of_written().map_err(io("reading a segment"))?;
    disk.remove(&file_name(last.sequence())).map_err(io("removing an unsettled segment"))?;
    segments.pop();
    Ok(bytes)
}

/// Everything up to the seal is there.
fn is_complete(disk: &Arc<dyn Disk>, segment: &Segment) -> Result<bool, StoreError> {
    let mut records = segment.reader_at(0);
    loop {
        match records.next() {
            Ok(record) if record.header.kind == RecordKind::Seal => return Ok(true),
            Ok(_) => {}
            Err(ReadStop::Io(source)) => return Err(StoreError::io(&**disk, "reading a segment")(source)),
            Err(ReadStop::Damaged { offset, damage }) => {
                refuse_newer(disk, segment.sequence(), offset, damage)?;
                return Ok(false);
            }
        }
    }
}

/// A checksum that matches says that this was written so, by a newer version.
fn refuse_newer(disk: &Arc<dyn Disk>, sequence: u64, offset: u64, damage: Damage) -> Result<(), StoreError> {
    match damage {
        Damage::Version(_) | Damage::Kind(_) => Err(StoreError::corrupt(&**disk, sequence, offset, damage)),
        _ => Ok(()),
    }
}

/// An invalid record may be cut off only if nothing behind it says that it had been durable.
fn check_torn(disk: &Arc<dyn Disk>, segment: &Segment, offset: u64, damage: Damage) -> Result<(), StoreError> {
    let mut reader = segment.reader_at(offset + RECORD_ALIGNMENT_BYTES as u64);
    let io = StoreError::io(&**disk, "reading a segment");
    while let Some(later) = reader.resynchronize().map_err(&io)? {
        if later.header.synced_bytes > offset {
            return Err(StoreError::corrupt(&**disk, segment.sequence(), offset, damage));
        }
    }
    Ok(())
}

/// A snapshot from a leader replaced everything before the segment that says so. Returns whose log it is.
fn remove_before_restart(
    disk: &Arc<dyn Disk>,
    config: &SegmentConfig,
    segments: &mut Vec<Arc<Segment>>,
) -> Result<u64, StoreError> {
    let (mut first, mut found) = (0, None);
    // Such a segment is the last or near it: the older ones are removed right after it was made.
    for (position, segment) in segments.iter().enumerate().rev().take(4) {
        let record = segment.reader_at(0).next().map_err(|stop| read_error(disk, segment, stop))?;
        let (Some(&flags), Some(owner)) = (record.payload.first(), record.payload.get(1..9)) else {
            return Err(StoreError::corrupt(&**disk, segment.sequence(), 0, "malformed header"));
        };
        let owner = u64::from_le_bytes(owner.try_into().expect("eight bytes were taken"));
        let expected = found.get_or_insert(owner);
        if owner != *expected || node_id(owner) != node_id(config.raft_id) {
            let reason = format!("written by node {}, opened by node {}", node_id(owner), node_id(config.raft_id));
            return Err(StoreError::corrupt(&**disk, segment.sequence(), 0, reason));
        }
        if flags & FLAG_RESTARTED != 0 {
            first = position;
            break;
        }
    }
    for segment in segments.drain(..first) {
        disk.remove(&file_name(segment.sequence())).map_err(StoreError::io(&**disk, "removing a segment"))?;
    }
    Ok(found.expect("a log that exists has a segment"))
}

fn read_error(disk: &Arc<dyn Disk>, segment: &Segment, stop: ReadStop) -> StoreError {
    match stop {
        ReadStop::Io(source) => StoreError::io(&**disk, "reading a segment")(source),
        ReadStop::Damaged { offset, damage } => StoreError::corrupt(&**disk, segment.sequence(), offset, damage),
    }
}

/// An empty log.
fn begin(
    disk: Arc<dyn Disk>,
    config: SegmentConfig,
    spare: Arc<Spare>,
    voters: &[u64],
) -> Result<Recovered, StoreError> {
    let mut conf_state = ConfState::default();
    conf_state.set_voters(voters.to_vec());
    let machine = StateMachine::default().encode().into();
    let terms = TermRuns::starting_at(0, 0);
    let checkpoint = Checkpoint { index: 0, term: 0, terms: terms.clone(), conf_state, machine };
    let active = new_segment(&disk, &spare, MIN_SEGMENT_BYTES, 1, 1, &checkpoint)?;
    let set = SegmentSet::new(disk.clone(), terms.clone());
    let mut log = writer(disk, set, spare, config, active);
    log.start_segment(&checkpoint, &checkpoint.encode(), 0)?;
    log.sync()?;
    let start = checkpoint.clone();
    let (tail, hard_state) = (Vec::new(), HardState::default());
    let raft_id = config.raft_id;
    Ok(Recovered { log, checkpoint, tail, terms, hard_state, start, torn_bytes: 0, raft_id })
}

fn writer(
    disk: Arc<dyn Disk>,
    set: Arc<SegmentSet>,
    spare: Arc<Spare>,
    config: SegmentConfig,
    active: Arc<Segment>,
) -> SegmentLog {
    SegmentLog {
        disk,
        set,
        spare,
        config,
        active,
        written_bytes: 0,
        synced_bytes: 0,
        before: None,
        buffer: Vec::new(),
        hard_state: HardState::default(),
        last_index: 0,
        since_checkpoint_bytes: 0,
        head_bytes: 0,
        locations: VecDeque::new(),
        marks: Default::default(),
        marked: false,
    }
}

fn recover(
    disk: Arc<dyn Disk>,
    config: SegmentConfig,
    spare: Arc<Spare>,
    segments: Vec<Arc<Segment>>,
) -> Result<Recovered, StoreError> {
    let last = segments.len() - 1;
    let checkpoint_of = |segment: &Segment| segment.read_checkpoint().map_err(|stop| read_error(&disk, segment, stop));
    // The first segment to read: the entry after the last segment's checkpoint must not lie before it. Of that segment
    // only those entries count; what comes before them in turn may have been trimmed away.
    let (mut first_index, checkpoint) = checkpoint_of(&segments[last])?;
    let mut from = last;
    while from > 0 && first_index > checkpoint.index + 1 {
        from -= 1;
        first_index = checkpoint_of(&segments[from])?.0;
    }
    let mut scan = Scan {
        terms: checkpoint.terms.clone(),
        checkpoint,
        tail: VecDeque::new(),
        hard_state: HardState::default(),
        since_checkpoint_bytes: 0,
        sealed: false,
        marked: false,
        end_offset: 0,
        head_bytes: 0,
    };
    for (position, segment) in segments.iter().enumerate().skip(from) {
        scan.segment(&disk, segment, position == last)?;
    }
    let torn_bytes = erase_tail(&disk, &segments[last], &scan)?;

    let last_index = scan.terms.last_index();
    // A commit index may have been written in a group whose entries were torn off.
    scan.hard_state.commit = scan.hard_state.commit.clamp(scan.checkpoint.index, last_index);
    let start = find_start(&disk, &segments, &scan.terms)?;
    scan.terms.compact_to(start.index);

    let set = SegmentSet::new(disk.clone(), scan.terms.clone());
    for segment in &segments {
        set.insert(segment.clone());
    }
    let mut log = writer(disk.clone(), set, spare, config, segments[last].clone());
    (log.written_bytes, log.synced_bytes) = (scan.end_offset, scan.end_offset);
    log.hard_state = scan.hard_state.clone();
    log.last_index = last_index;
    log.since_checkpoint_bytes = scan.since_checkpoint_bytes;
    log.head_bytes = scan.head_bytes;
    log.marked = scan.marked;
    log.locations = scan.tail.iter().map(|(_, location)| *location).collect();
    if scan.sealed {
        let state = Checkpoint { terms: scan.terms.clone(), ..scan.checkpoint.clone() };
        log.create_segment(&state, 0, 0)?;
        log.sync()?;
    } else {
        log.spare.request(log.active.sequence() + 1);
    }
    Ok(Recovered {
        log,
        checkpoint: scan.checkpoint,
        tail: scan.tail.into_iter().map(|(entry, _)| entry).collect(),
        terms: scan.terms,
        hard_state: scan.hard_state,
        start,
        torn_bytes,
        raft_id: config.raft_id,
    })
}

/// Removes what lies behind the last valid record, so that it can never follow a new one, and makes everything that
/// was read durable: the process may have died between a write and its fsync.
fn erase_tail(disk: &Arc<dyn Disk>, segment: &Segment, scan: &Scan) -> Result<u64, StoreError> {
    let io = |doing| StoreError::io(&**disk, doing);
    let end = segment.reader_at(scan.end_offset).end_of_written().map_err(io("reading a segment"))?;
    if end > scan.end_offset && !scan.sealed {
        let zeros = vec![0; (end - scan.end_offset) as usize];
        segment.file().write_at(scan.end_offset, &zeros).map_err(io("cutting a torn tail"))?;
    }
    segment.file().sync().map_err(io("syncing a segment"))?;
    disk.sync_directory().map_err(io("syncing the log directory"))?;
    Ok(end.saturating_sub(scan.end_offset))
}

/// The oldest checkpoint from which every later entry is in the files and has a known term.
fn find_start(disk: &Arc<dyn Disk>, segments: &[Arc<Segment>], terms: &TermRuns) -> Result<Checkpoint, StoreError> {
    let mut oldest = None;
    for segment in segments {
        let (first_index, checkpoint) = segment.read_checkpoint().map_err(|stop| read_error(disk, segment, stop))?;
        let oldest_index = *oldest.get_or_insert(first_index);
        if checkpoint.index + 1 >= oldest_index && checkpoint.index >= terms.first_index() {
            return Ok(checkpoint);
        }
    }
    Err(StoreError::corrupt(&**disk, segments[0].sequence(), 0, "no checkpoint covers the log that is left"))
}

impl Scan {
    fn segment(&mut self, disk: &Arc<dyn Disk>, segment: &Arc<Segment>, is_last: bool) -> Result<(), StoreError> {
        let corrupt = |offset, reason: String| StoreError::corrupt(&**disk, segment.sequence(), offset, reason);
        let mut reader = segment.reader_at(0);
        // The newest entry when this was written, replaced ones included.
        let mut newest = None;
        loop {
            let record = match reader.next() {
                Ok(record) => record,
                Err(ReadStop::Io(source)) => return Err(StoreError::io(&**disk, "reading a segment")(source)),
                Err(ReadStop::Damaged { offset, damage }) => {
                    refuse_newer(disk, segment.sequence(), offset, damage)?;
                    if !is_last {
                        return Err(corrupt(offset, damage.to_string()));
                    }
                    check_torn(disk, segment, offset, damage)?;
                    self.end_offset = offset;
                    return Ok(());
                }
            };
            let (index, term, offset) = (record.header.index, record.header.term, record.offset);
            self.marked = record.header.kind == RecordKind::Mark;
            match record.header.kind {
                RecordKind::Mark => {}
                RecordKind::Header => newest = index.checked_sub(1),
                RecordKind::Seal => {
                    if let Some(end) = newest.filter(|end| *end != index) {
                        return Err(corrupt(offset, format!("sealed at entry {index}, but entries end at {end}")));
                    }
                    self.sealed = is_last;
                    self.end_offset = reader.offset();
                    return Ok(());
                }
                RecordKind::HardState => {
                    let vote: [u8; 8] =
                        record.payload[..].try_into().map_err(|_| corrupt(offset, "malformed hard state".into()))?;
                    self.hard_state =
                        HardState { term, commit: index, vote: u64::from_le_bytes(vote), ..HardState::default() };
                    if self.head_bytes == 0 {
                        self.head_bytes = reader.offset();
                    }
                }
                RecordKind::Checkpoint => {
                    let checkpoint = Checkpoint::decode(index, term, record.payload)
                        .map_err(|error| corrupt(offset, error.to_string()))?;
                    if is_last {
                        self.checkpoint(checkpoint).map_err(|reason| corrupt(offset, reason))?;
                    }
                    if offset > self.head_bytes {
                        self.since_checkpoint_bytes = 0;
                    }
                }
                RecordKind::Entry | RecordKind::ConfChange | RecordKind::ConfChangeV2 => {
                    let entry = to_entry(&record).map_err(|reason| corrupt(offset, reason.to_owned()))?;
                    let entry = entry.expect("the kind is an entry's");
                    newest = Some(index);
                    self.since_checkpoint_bytes += reader.offset() - offset;
                    let location = Location { index, sequence: segment.sequence(), offset };
                    self.entry(entry, location, is_last).map_err(|reason| corrupt(offset, reason))?;
                }
            }
        }
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        if checkpoint.index < self.checkpoint.index {
            return Err(format!("checkpoint goes back from {} to {}", self.checkpoint.index, checkpoint.index));
        }
        if self.terms.term(checkpoint.index) != Some(checkpoint.term) {
            return Err(format!("checkpoint of {}, which is not in the log", checkpoint.index));
        }
        while self.tail.front().is_some_and(|(entry, _)| entry.index <= checkpoint.index) {
            self.tail.pop_front();
        }
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// `is_last`: the entry was written after the checkpoint that the scan began with. One in a segment before may
    /// have been replaced before that checkpoint was written, and then does not fit to it; its replacement follows.
    fn entry(&mut self, entry: Entry, location: Location, is_last: bool) -> Result<(), String> {
        let (index, term) = (entry.index, entry.term);
        if index <= self.checkpoint.index {
            // Applied long since; only its place in an older segment made us meet it.
            return Ok(());
        }
        let before = self.terms.term(index - 1);
        if !is_last && before.is_none_or(|before| term < before) {
            return Ok(());
        }
        let before = before.ok_or_else(|| {
            format!("entry {index} does not follow the log, which ends at {}", self.terms.last_index())
        })?;
        if term < before {
            return Err(format!("entry {index} of term {term} follows one of term {before}"));
        }
        while self.tail.back().is_some_and(|(last, _)| last.index >= index) {
            self.tail.pop_back();
        }
        self.terms.push(index, term);
        self.tail.push_back((entry, location));
        Ok(())
    }
}
