//! Sequences: values, limits, caches, and what a crash may cost.

use std::sync::Arc;

use super::*;

struct Sequences {
    session: Session,
    values: SequenceSession,
}

impl Sequences {
    fn new(options: &str) -> Self {
        let mut session = Session::new();
        run(&mut session, &[&format!("create sequence s {options}")]);
        Self { session, values: SequenceSession::default() }
    }

    fn sequence(&self) -> Arc<Sequence> {
        self.session.catalog().sequences().next().unwrap().clone()
    }

    fn next(&mut self) -> String {
        let (sequence, catalog) = (self.sequence(), self.session.catalog());
        let manager = &self.session.manager;
        let result = manager.sequences().nextval(&*self.session.store, catalog.counters(), &sequence, &mut self.values);
        result.map_or_else(|error| format!("{} {}", error.state().0, error.message()), |value| value.to_string())
    }

    fn set(&mut self, last_value: i64, is_called: bool) {
        let (sequence, catalog) = (self.sequence(), self.session.catalog());
        let (sequences, position) = (self.session.manager.sequences(), SequencePosition { last_value, is_called });
        sequences.setval(&*self.session.store, catalog.counters(), &sequence, position, &mut self.values).unwrap();
    }
}

#[test]
fn values() {
    let check = |options: &str, expected: &[&str]| {
        let mut sequences = Sequences::new(options);
        let found: Vec<_> = expected.iter().map(|_| sequences.next()).collect();
        assert_eq!(found, expected, "for {options}");
    };
    check("", &["1", "2", "3"]);
    check("increment by 5 start with 10", &["10", "15", "20"]);
    check("increment by -1", &["-1", "-2"]);
    check("maxvalue 2", &["1", "2", "2200H nextval: reached maximum value of sequence \"s\" (2)"]);
    check("maxvalue 2 cycle", &["1", "2", "1", "2"]);
    check("maxvalue 3 cache 10", &["1", "2", "3", "2200H nextval: reached maximum value of sequence \"s\" (3)"]);
    check("as smallint start with 32767", &["32767", "2200H nextval: reached maximum value of sequence \"s\" (32767)"]);
}

#[test]
fn setval_and_currval() {
    let mut sequences = Sequences::new("cache 5");
    let sequence = sequences.sequence();
    let undefined = sequences.values.currval(&sequence).unwrap_err();
    assert_eq!(undefined.to_string(), "55000: currval of sequence \"s\" is not yet defined in this session");
    assert_eq!(sequences.next(), "1");
    sequences.set(50, true);
    assert_eq!((sequences.values.currval(&sequence).unwrap(), sequences.next()), (50, "51".into()));
    sequences.set(7, false);
    assert_eq!(sequences.next(), "7");
    assert_eq!(sequences.values.lastval(|_| true).unwrap(), 7);
}

#[test]
fn nothing_is_given_out_twice_after_a_crash() {
    let mut sequences = Sequences::new("");
    let mut given: Vec<i64> = (0..100).map(|_| sequences.next().parse().unwrap()).collect();
    for _ in 0..3 {
        let manager = Arc::new(CatalogManager::open(sequences.session.store.clone()).unwrap());
        sequences.session = Session::over(sequences.session.store.clone(), manager);
        sequences.values = SequenceSession::default();
        given.extend((0..40).map(|_| sequences.next().parse::<i64>().unwrap()));
    }
    let mut distinct = given.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), given.len());
}

#[test]
fn definitions_are_checked() {
    super::check(
        &mut Session::new(),
        &[
            ("create sequence s increment by 0", "22023 INCREMENT must not be zero"),
            ("create sequence s minvalue 5 maxvalue 4", "22023 MINVALUE (5) must be less than MAXVALUE (4)"),
            ("create sequence s start with 0", "22023 START value (0) cannot be less than MINVALUE (1)"),
            (
                "create sequence s as smallint maxvalue 40000",
                "22023 MAXVALUE (40000) is out of range for sequence data type smallint",
            ),
            ("create sequence s as text", "22023 sequence type must be smallint, integer, or bigint"),
            ("create sequence s cache 0", "22023 CACHE (0) must be greater than zero"),
            ("create sequence s", "CREATE SEQUENCE"),
            ("create sequence if not exists s", "CREATE SEQUENCE [relation \"s\" already exists, skipping]"),
            ("create sequence s", "42P07 relation \"s\" already exists"),
        ],
    );
}
