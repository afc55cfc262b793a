//! Upkeep rows: round trip and refusal.

use super::*;

#[test]
fn rows_come_back_and_nothing_else_does() {
    let run = Upkeep::Run { first: PageNo(0x0102_0304_0506), pages: 77 };
    let dropped = Upkeep::Dropped { tree: TreeId(PageNo(9)) };
    for row in [run, dropped] {
        let (key, value) = (row.key(), row.value());
        assert_eq!(Upkeep::decode(&key, &value), Ok(row));
        assert!(Upkeep::decode(&key[..8], &value).is_err());
        assert!(Upkeep::decode(&[&key[..], &[0]].concat(), &value).is_err());
        assert!(Upkeep::decode(&key, &[&value[..], &[0]].concat()).is_err());
    }
    assert!(Upkeep::decode(&run.key(), &[]).is_err());
    assert!(Upkeep::decode(&[3; 9], &[]).is_err());
    assert!(run.key() < dropped.key(), "runs come first");
}
