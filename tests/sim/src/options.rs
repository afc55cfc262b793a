//! What a seed's run is like. Each seed has its own mixture (swarm testing): faults that hide each other are apart in
//! many runs.

use crate::random::Random;

/// Drawn at a run's begin. Times in milliseconds, chances in percent.
#[derive(Debug)]
pub struct Options {
    pub nodes: u64,
    /// How long there are faults.
    pub faulty_ms: u64,
    pub fault_every_ms: u64,
    pub loss: u64,
    pub duplicates: u64,
    pub delay_ms: (u64, u64),
    pub sync_ms: u64,
    pub crashes: bool,
    pub power_cuts: bool,
    pub crash_points: bool,
    pub partitions: bool,
    pub slow_disks: bool,
    pub full_disks: bool,
    pub failed_syncs: bool,
    pub pauses: bool,
    pub wipes: bool,
    pub membership: bool,
    pub trimming: bool,
    /// At the end only a majority is healed; else everything is, and all must come back in sync.
    pub heals_majority_only: bool,
    /// Page servers and branches, if there are any.
    pub pages: Option<PageOptions>,
    /// Of the object store, if anybody uses it.
    pub store: Option<StoreOptions>,
    /// The log is archived.
    pub archive: Option<ArchiveOptions>,
    /// Operators split shards.
    pub splits: bool,
    /// There are writers beside computes.
    pub writers: bool,
    /// The log nodes' ticks.
    pub tick_ms: u64,
    /// Between two looks of who watches metadata.
    pub watch_every_ms: u64,
    /// What the log may take of a node's disk.
    pub log_budget_bytes: u64,
}

/// Of the object store.
#[derive(Debug)]
pub struct StoreOptions {
    /// What a request takes on each way.
    pub ms: (u64, u64),
    pub refused: u64,
    pub lost_answers: u64,
    /// Requests that take so long that nobody waits for them any more, and that take effect then.
    pub late: u64,
    pub stale_list: bool,
    pub outages: bool,
    /// Objects of this size and more are uploaded in parts.
    pub part_bytes: usize,
}

/// Smaller than any part.
const WHOLE: usize = 8 << 20;

impl StoreOptions {
    fn draw(random: &mut Random) -> StoreOptions {
        let faulty = random.percent(60);
        let mut chance = |most: u64| if faulty { random.below(most) } else { 0 };
        let [refused, lost_answers, late] = [chance(12), chance(12), chance(4)];
        let shortest = random.below(4);
        let ms = (shortest, shortest + random.between(1, 30));
        let (stale_list, outages) = (random.percent(40), random.percent(25));
        StoreOptions { ms, refused, lost_answers, late, stale_list, outages, part_bytes: WHOLE }
    }
}

/// Of the log's archive.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// Between two looks of an archiver.
    pub pause_ms: u64,
    pub piece_bytes: usize,
    /// What lies further back is dropped.
    pub retention_bytes: Option<u64>,
    /// Archivers try the store out before they use it.
    pub probes: bool,
    /// Log nodes end just before or after one of the next durable steps of their archiver.
    pub crash_points: bool,
    /// Those who read from anywhere in the streams.
    pub readers: u64,
}

impl ArchiveOptions {
    fn draw(random: &mut Random) -> ArchiveOptions {
        ArchiveOptions {
            pause_ms: random.between(20, 1_000),
            piece_bytes: random.between(1, 48) as usize * 1024,
            retention_bytes: random.percent(35).then(|| random.between(8, 200) * 1024),
            probes: random.percent(30),
            crash_points: random.percent(60),
            readers: random.between(1, 3),
        }
    }
}

/// Of the page servers.
#[derive(Debug)]
pub struct PageOptions {
    pub servers: u64,
    pub shards: u32,
    pub stripe_pages: u32,
    pub writer_every_ms: u64,
    /// Writers keep a database in a tree; else they change pages at random.
    pub tables: bool,
    /// Computes write the first branch, if it is such a database.
    pub computes: bool,
    /// Pages that a compute's cache holds.
    pub compute_pages: u64,
    /// Sessions of a compute.
    pub sessions: u64,
    /// Tasks that read pages all the time.
    pub readers: u64,
    /// How far page servers may fall behind before a compute slows its writers.
    pub lag_bytes: u64,
    pub buffer_bytes: usize,
    pub buffer_age_ms: u64,
    pub retention_bytes: u64,
    pub layer_target_bytes: u64,
    /// No caches at all, or such as hold everything.
    pub caches: bool,
    /// Pieces of layers are cached in a directory.
    pub cache_directory: bool,
    pub crashes: bool,
    /// A server ends just before or after one of its next durable steps.
    pub crash_points: bool,
    pub pauses: bool,
    /// Servers stop in good order, and others join.
    pub restarts: bool,
    pub lost_directories: bool,
    pub branches: bool,
}

impl PageOptions {
    /// Log nodes send to a shard only its records. Not drawn: the mixtures of all seeds would be others.
    pub fn filters(&self) -> bool {
        !self.writer_every_ms.is_multiple_of(3)
    }

    /// Wall clocks of computes and page servers jump by up to an hour, forth and back. Not drawn either.
    pub fn clock_jumps(&self) -> bool {
        (self.layer_target_bytes / 1024).is_multiple_of(2)
    }

    fn draw(random: &mut Random) -> (PageOptions, StoreOptions) {
        let faulty_store = random.percent(60);
        let mut chance = |faulty: bool, most: u64| if faulty { random.below(most) } else { 0 };
        let [refused, lost_answers, late] =
            [chance(faulty_store, 12), chance(faulty_store, 12), chance(faulty_store, 4)];
        let shortest = random.below(4);
        let longest = shortest + random.between(1, 30);
        let mut coin = |chance| random.percent(chance);
        let [caches, cache_directory, crashes, crash_points, pauses] =
            [coin(60), coin(20), coin(60), coin(60), coin(40)];
        let tables = coin(65);
        let computes = tables && coin(65);
        let [restarts, lost_directories, branches, stale_list, outages] =
            [coin(40), coin(50), coin(60), coin(40), coin(25)];
        let ms = (shortest, longest);
        let store = StoreOptions { ms, refused, lost_answers, late, stale_list, outages, part_bytes: WHOLE };
        let pages = PageOptions {
            servers: random.between(1, 3),
            shards: random.between(1, 3) as u32,
            stripe_pages: random.between(1, 6) as u32,
            writer_every_ms: random.between(10, 60),
            tables,
            computes,
            compute_pages: random.between(16, 160),
            sessions: random.between(1, 5),
            readers: 3,
            lag_bytes: random.between(8, 2_000) * 1024,
            buffer_bytes: random.between(4, 40) as usize * 1024,
            buffer_age_ms: random.between(200, 3_000),
            retention_bytes: random.between(0, 200) * 1024,
            layer_target_bytes: random.between(8, 200) * 1024,
            caches,
            cache_directory,
            crashes,
            crash_points,
            pauses,
            restarts,
            lost_directories,
            branches,
        };
        (pages, store)
    }
}

impl Options {
    /// `further`: what came later is drawn apart, or the mixtures of all seeds would be others.
    pub fn draw(random: &mut Random, further: &mut Random) -> Options {
        let (pages, store) = random.percent(70).then(|| PageOptions::draw(random)).unzip();
        let archive = further.percent(40).then(|| ArchiveOptions::draw(further));
        let archives = archive.is_some();
        let mut store = store.or_else(|| archives.then(|| StoreOptions::draw(further)));
        let (splits, in_parts, part_bytes) =
            (further.percent(35), further.percent(50), further.between(500, 12_000) as usize);
        if let Some(store) = store.as_mut().filter(|_| in_parts) {
            store.part_bytes = part_bytes;
        }
        let nodes = if random.percent(75) { 3 } else { 5 };
        let lossy = random.percent(50);
        let shortest = random.below(3);
        let mut coin = |chance| random.percent(chance);
        let [crashes, power_cuts, crash_points, partitions, slow_disks] =
            [coin(50), coin(50), coin(40), coin(60), coin(30)];
        let [full_disks, failed_syncs, pauses] = [coin(20), coin(20), coin(30)];
        let [wipes, membership, trimming, heals_majority_only] = [coin(40), coin(40), coin(60), coin(50)];
        Options {
            nodes,
            faulty_ms: if pages.is_some() { random.between(6_000, 18_000) } else { random.between(4_000, 12_000) },
            fault_every_ms: random.between(150, 1_500),
            loss: if lossy { random.below(15) } else { 0 },
            duplicates: if lossy { random.below(10) } else { 0 },
            delay_ms: (shortest, shortest + random.between(1, 40)),
            sync_ms: random.below(5),
            crashes,
            power_cuts,
            crash_points,
            partitions,
            slow_disks,
            full_disks,
            failed_syncs,
            pauses,
            wipes,
            membership,
            trimming,
            heals_majority_only,
            pages,
            store,
            archive,
            splits,
            writers: true,
            tick_ms: 20,
            watch_every_ms: 50,
            log_budget_bytes: u64::MAX,
        }
    }
}
