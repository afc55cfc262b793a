//! What the page server reports of itself, gathered without a server for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

#[derive(Default)]
struct Values(Mutex<Vec<f64>>);

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().expect("nobody panics here").push(value);
    }
}

/// The recorder.
#[derive(Clone, Default)]
pub struct Meters {
    layers: Arc<Values>,
    written: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
}

impl Recorder for Meters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != pageserver::metrics::WRITTEN_BYTES {
            return Counter::noop();
        }
        let work = key.labels().map(|label| label.value().to_owned()).collect();
        Counter::from_arc(self.written.lock().expect("nobody panics here").entry(work).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() == pageserver::metrics::LAYERS_PER_READ {
            return Histogram::from_arc(self.layers.clone());
        }
        Histogram::noop()
    }
}

impl Meters {
    /// Becomes the process's recorder.
    pub fn install() -> Meters {
        let meters = Meters::default();
        metrics::set_global_recorder(meters.clone()).expect("there is no other");
        meters
    }

    /// Layers touched by each read since the last call.
    pub fn take_layers_per_read(&self) -> Vec<f64> {
        std::mem::take(&mut *self.layers.0.lock().expect("nobody panics here"))
    }

    /// Bytes written to the object store.
    pub fn written_bytes(&self) -> f64 {
        let written = self.written.lock().expect("nobody panics here");
        written.values().map(|bytes| bytes.load(Ordering::Relaxed) as f64).sum()
    }

    /// The same by the work that wrote them.
    pub fn written(&self) -> String {
        let written = self.written.lock().expect("nobody panics here");
        let mib =
            |(work, bytes): (&String, &Arc<AtomicU64>)| format!("{work} {} MiB", bytes.load(Ordering::Relaxed) >> 20);
        written.iter().map(mib).collect::<Vec<_>>().join(", ")
    }
}

/// CPU time of this process so far, of all its threads.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("the name ends with one");
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

/// The same of the threads whose name begins so.
pub fn cpu_seconds_of(name: &str) -> f64 {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux") {
        // A thread that has ended meanwhile is none of those asked for.
        let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat"))).unwrap_or_default();
        let Some((before, after)) = stat.rsplit_once(')') else { continue };
        if before.split_once('(').is_some_and(|(_, found)| found.starts_with(name)) {
            let times = after.split_whitespace().skip(11).take(2);
            ticks += times.map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>();
        }
    }
    ticks as f64 / 100.0
}

/// A value that this share of all does not exceed.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).ceil() as usize).copied().unwrap_or_default()
}
