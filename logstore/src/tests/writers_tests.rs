//! Leadership goes to where the writers are, and does not jump about.

use super::node_tests::Cluster;
use crate::writers::Writers;

#[test]
fn more_than_half_of_the_bytes_are_a_majority() {
    let writers = Writers::default();
    assert_eq!(writers.majority(), None);
    let [here, there, nowhere] = ["here", "there", ""].map(|near| writers.register(near));
    let check = |bytes: [usize; 3], expected: Option<&str>| {
        for (writer, bytes) in [&here, &there, &nowhere].into_iter().zip(bytes) {
            writer.wrote(bytes);
        }
        assert_eq!(writers.majority().as_deref(), expected, "{bytes:?}");
        // What was counted once counts no more.
        assert_eq!(writers.majority(), None);
    };
    check([1, 0, 0], Some("here"));
    check([10, 9, 0], Some("here"));
    check([10, 10, 0], None);
    check([10, 4, 6], None);
    check([3, 10, 6], Some("there"));
    check([0, 0, 100], None);
    let second = writers.register("here");
    here.wrote(5);
    second.wrote(5);
    there.wrote(9);
    assert_eq!(writers.majority().as_deref(), Some("here"));
    drop(second);
    // Streams beyond the limit are nowhere, and those that have ended make room.
    let many: Vec<_> = (0..2000).map(|number| writers.register(&number.to_string())).collect();
    many[1999].wrote(100);
    assert_eq!(writers.majority(), None);
    drop(many);
    let late = writers.register("late");
    late.wrote(1);
    assert_eq!(writers.majority().as_deref(), Some("late"));
}

#[test]
fn a_follower_beside_the_writers_becomes_the_leader_once() {
    let mut cluster = Cluster::with_members();
    let first = cluster.leader();
    let (epoch, mut end) = cluster.acquire(first);
    cluster.append(first, epoch, &mut end, 5);
    let near = first % 3 + 1;
    let other = near % 3 + 1;
    let wish = |cluster: &mut Cluster, address: &str| {
        let leader = cluster.leader();
        cluster.nodes.get_mut(&leader).expect("it runs").lead_near(address);
        cluster.settle();
        cluster.tick(2);
        cluster.leader()
    };
    assert_eq!(wish(&mut cluster, &format!("node-{near}")), first, "a new leader stays for a while");
    cluster.tick(60);
    assert_eq!(wish(&mut cluster, "elsewhere"), first, "no such node");
    assert_eq!(wish(&mut cluster, &format!("node-{first}")), first, "it leads already");
    cluster.cut_off = vec![near];
    cluster.tick(40);
    assert_eq!(wish(&mut cluster, &format!("node-{near}")), first, "it is not there");
    cluster.cut_off.clear();
    cluster.tick(20);
    let first = cluster.leader();
    cluster.append(first, epoch, &mut end, 5);
    cluster.tick(60);
    let near = if first == near { other } else { near };
    assert_eq!(wish(&mut cluster, &format!("node-{near}")), near);
    cluster.append(near, epoch, &mut end, 5);
    assert_eq!(wish(&mut cluster, &format!("node-{first}")), near, "not to and fro");
    cluster.check_equal();
}
