//! What the S3 server holds, and what requests do to it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::http::{Answer, Request};

/// Whether conditions on a PUT mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    /// One of several racers wins.
    Honest,
    /// `If-None-Match` and `If-Match` are ignored.
    IgnoresConditions,
    /// `If-Match` is ignored.
    IgnoresMatch,
    /// Conditions are looked at a moment before the write: several racers may win.
    Racy,
}

/// Entries of one page of a LIST: few, so that paging is met.
const LIST_PAGE: usize = 3;
/// LIST can lag behind by so many changes.
const REMEMBERED_LISTS: usize = 64;

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    e_tag: String,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, BTreeMap<u32, Bytes>>,
    /// Keys with their sizes after each of the last changes, oldest first.
    lists: VecDeque<BTreeMap<String, usize>>,
    lag: usize,
    next: u64,
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn changed(&mut self) {
        let list = self.objects.iter().map(|(key, object)| (key.clone(), object.bytes.len())).collect();
        self.lists.push_back(list);
        if self.lists.len() > REMEMBERED_LISTS {
            self.lists.pop_front();
        }
    }

    fn put(&mut self, key: &str, bytes: Bytes) -> String {
        let e_tag = format!("\"{:032x}\"", self.number());
        self.objects.insert(key.to_owned(), Object { bytes, e_tag: e_tag.clone() });
        self.changed();
        e_tag
    }
}

/// All objects of all buckets, by `bucket/key`.
pub struct Contents {
    honesty: Honesty,
    inner: Mutex<Inner>,
}

impl Contents {
    pub fn new(honesty: Honesty) -> Contents {
        Contents { honesty, inner: Mutex::default() }
    }

    pub fn let_lists_lag(&self, changes: usize) {
        assert!(changes < REMEMBERED_LISTS);
        self.inner.lock().lag = changes;
    }

    pub fn keys(&self) -> Vec<String> {
        self.inner.lock().objects.keys().cloned().collect()
    }

    pub fn flip_bit(&self, key: &str, bit: usize) {
        let mut inner = self.inner.lock();
        let object = inner.objects.get_mut(key).expect("an object to damage");
        let mut bytes = object.bytes.to_vec();
        let place = bit / 8 % bytes.len();
        bytes[place] ^= 1 << (bit % 8);
        object.bytes = Bytes::from(bytes);
    }

    /// Whether a PUT's conditions hold.
    fn holds(&self, inner: &Inner, request: &Request) -> bool {
        let found = inner.objects.get(&request.path);
        let absent = !request.headers.contains_key("if-none-match") || found.is_none();
        let wanted = request.headers.get("if-match");
        let matches = wanted.is_none_or(|wanted| found.is_some_and(|found| found.e_tag == *wanted));
        match self.honesty {
            Honesty::Honest | Honesty::Racy => absent && matches,
            Honesty::IgnoresMatch => absent,
            Honesty::IgnoresConditions => true,
        }
    }
}

/// Does what a request asks for.
pub async fn serve(contents: &Contents, request: &Request) -> Answer {
    let asks = |name: &str| request.query.contains_key(name);
    match request.method.as_str() {
        "PUT" if asks("uploadId") => put_part(contents, request),
        "PUT" => put(contents, request).await,
        "GET" if asks("list-type") => list(contents, request),
        "GET" | "HEAD" => get(contents, request),
        "POST" if asks("delete") => delete_many(contents, request),
        "POST" if asks("uploads") => {
            let upload = format!("upload-{}", contents.inner.lock().number());
            contents.inner.lock().uploads.insert(upload.clone(), BTreeMap::new());
            Answer::new(200).xml(&format!(
                "<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        "POST" if asks("uploadId") => complete(contents, request),
        "DELETE" if asks("uploadId") => {
            contents.inner.lock().uploads.remove(&request.query["uploadId"]);
            Answer::new(204)
        }
        "DELETE" => {
            let mut inner = contents.inner.lock();
            inner.objects.remove(&request.path);
            inner.changed();
            Answer::new(204)
        }
        _ => Answer::error(405, "MethodNotAllowed"),
    }
}

async fn put(contents: &Contents, request: &Request) -> Answer {
    let refused = Answer::error(412, "PreconditionFailed");
    if contents.honesty == Honesty::Racy {
        if !contents.holds(&contents.inner.lock(), request) {
            return refused;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let e_tag = contents.inner.lock().put(&request.path, request.body.clone());
        return Answer::new(200).header("ETag", e_tag);
    }
    let mut inner = contents.inner.lock();
    if !contents.holds(&inner, request) {
        return refused;
    }
    let e_tag = inner.put(&request.path, request.body.clone());
    Answer::new(200).header("ETag", e_tag)
}

fn get(contents: &Contents, request: &Request) -> Answer {
    let inner = contents.inner.lock();
    let Some(object) = inner.objects.get(&request.path) else { return Answer::error(404, "NoSuchKey") };
    let described = |status| {
        let answer = Answer::new(status).header("ETag", object.e_tag.clone());
        answer.header("Last-Modified", "Fri, 01 Jan 2027 00:00:00 GMT")
    };
    let total = object.bytes.len();
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((from, to)) = range else { return described(200).body(object.bytes.clone()) };
    let from: usize = from.parse().expect("a number");
    let end = if to.is_empty() { total } else { to.parse::<usize>().expect("a number").saturating_add(1).min(total) };
    if from >= end {
        return Answer::error(416, "InvalidRange");
    }
    let told = format!("bytes {from}-{}/{total}", end - 1);
    described(206).header("Content-Range", told).body(object.bytes.slice(from..end))
}

fn list(contents: &Contents, request: &Request) -> Answer {
    let inner = contents.inner.lock();
    let bucket = format!("{}/", request.path.trim_end_matches('/'));
    let prefix = format!("{bucket}{}", request.query.get("prefix").map_or("", String::as_str));
    let seen = inner.lists.len().checked_sub(1 + inner.lag).map(|at| &inner.lists[at]);
    let after = request.query.get("continuation-token").cloned().unwrap_or_default();
    let found: Vec<_> = seen
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(&prefix) && **key > after)
        .take(LIST_PAGE + 1)
        .collect();
    let mut text = String::from("<ListBucketResult>");
    for (key, size) in found.iter().take(LIST_PAGE) {
        text += &format!(
            "<Contents><Key>{}</Key><Size>{size}</Size><LastModified>2027-01-01T00:00:00.000Z</LastModified></Contents>",
            &key[bucket.len()..]
        );
    }
    if found.len() > LIST_PAGE {
        text += &format!("<NextContinuationToken>{}</NextContinuationToken>", found[LIST_PAGE - 1].0);
    }
    Answer::new(200).xml(&(text + "</ListBucketResult>"))
}

fn delete_many(contents: &Contents, request: &Request) -> Answer {
    let bucket = request.path.trim_end_matches('/');
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let mut inner = contents.inner.lock();
    let mut text = String::from("<DeleteResult>");
    for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
        inner.objects.remove(&format!("{bucket}/{key}"));
        text += &format!("<Deleted><Key>{key}</Key></Deleted>");
    }
    inner.changed();
    Answer::new(200).xml(&(text + "</DeleteResult>"))
}

fn put_part(contents: &Contents, request: &Request) -> Answer {
    let mut inner = contents.inner.lock();
    let part = request.query["partNumber"].parse().expect("a number");
    let Some(upload) = inner.uploads.get_mut(&request.query["uploadId"]) else {
        return Answer::error(404, "NoSuchUpload");
    };
    upload.insert(part, request.body.clone());
    Answer::new(200).header("ETag", format!("\"part-{part}\""))
}

fn complete(contents: &Contents, request: &Request) -> Answer {
    let mut inner = contents.inner.lock();
    let Some(parts) = inner.uploads.remove(&request.query["uploadId"]) else {
        return Answer::error(404, "NoSuchUpload");
    };
    let mut bytes = BytesMut::new();
    parts.values().for_each(|part| bytes.extend_from_slice(part));
    let e_tag = inner.put(&request.path, bytes.freeze());
    Answer::new(200)
        .xml(&format!("<CompleteMultipartUploadResult><ETag>{e_tag}</ETag></CompleteMultipartUploadResult>"))
}
