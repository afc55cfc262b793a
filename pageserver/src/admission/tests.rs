//! Who begins when, who is turned away, and that no place is ever lost.

use futures::FutureExt;

use super::*;

const SETTINGS: AdmissionSettings = AdmissionSettings { most_working: 3, working: [3, 2, 2], waiting: [4, 2, 2] };

/// One request, as far as it has got.
enum Request {
    Waiting(std::pin::Pin<Box<dyn Future<Output = Working> + Send>>),
    Working { _place: Working },
    Gone,
}

/// Plays a script: `f`, `p`, `b` is a new request of that priority, `-3` ends or gives up request 3. What comes of each
/// request is told after each step: `w`orking, `q`ueued, `r`efused, `.` gone.
fn check(settings: AdmissionSettings, script: &[(&str, &str)]) {
    let admission = Admission::new(settings);
    let mut requests: Vec<(Request, bool)> = Vec::new();
    for (number, (step, expected)) in script.iter().enumerate() {
        let priority = match *step {
            "f" => Some(Priority::Foreground),
            "p" => Some(Priority::Prefetch),
            "b" => Some(Priority::Background),
            _ => None,
        };
        match priority {
            Some(priority) => requests.push(match admission.enter(priority) {
                Ok(waiting) => (Request::Waiting(Box::pin(waiting.begin())), false),
                Err(Overloaded { .. }) => (Request::Gone, true),
            }),
            None => {
                let ended: usize = step[1..].parse().expect("a number");
                requests[ended].0 = Request::Gone;
            }
        }
        for (request, _) in &mut requests {
            if let Request::Waiting(begin) = request
                && let Some(working) = begin.now_or_never()
            {
                *request = Request::Working { _place: working };
            }
        }
        let found: String = requests
            .iter()
            .map(|(request, refused)| match request {
                Request::Waiting(_) => 'q',
                Request::Working { .. } => 'w',
                Request::Gone if *refused => 'r',
                Request::Gone => '.',
            })
            .collect();
        assert_eq!(found, *expected, "after step {number}, {step:?}");
    }
    requests.clear();
    let state = admission.shared.state.lock();
    for (class, priority) in state.classes.iter().zip(Priority::ALL) {
        let left = (class.working, class.waiting, class.queue.len());
        assert_eq!(left, (0, 0, 0), "places of {} priority are given back", priority.name());
    }
}

#[test]
fn as_many_as_there_are_places() {
    check(SETTINGS, &[("f", "w"), ("f", "ww"), ("f", "www"), ("f", "wwwq"), ("-1", "w.ww"), ("-0", "..ww")]);
}

#[test]
fn the_urgent_first() {
    let script = [
        ("p", "w"),
        ("f", "ww"),
        ("p", "www"),
        ("p", "wwwq"),
        ("f", "wwwqq"),
        // A prefetch ends, yet the foreground begins.
        ("-0", ".wwqw"),
        ("-1", "..www"),
    ];
    check(SETTINGS, &script);
}

#[test]
fn nothing_starves() {
    // All places are taken and a foreground request waits: one of each other priority begins in spite of that.
    let script =
        [("f", "w"), ("f", "ww"), ("f", "www"), ("f", "wwwq"), ("b", "wwwqw"), ("b", "wwwqwq"), ("p", "wwwqwqw")];
    check(SETTINGS, &script);
}

#[test]
fn too_many_are_turned_away() {
    let script = [
        ("b", "w"),
        ("b", "ww"),
        ("b", "wwq"),
        ("b", "wwqq"),
        ("b", "wwqqr"),
        // Others are not concerned.
        ("f", "wwqqrw"),
        ("-2", "ww.qrw"),
        ("b", "ww.qrwq"),
        ("-0", ".w.wrwq"),
    ];
    check(SETTINGS, &script);
}

#[test]
fn who_gives_up_leaves_the_queue() {
    let script =
        [("f", "w"), ("f", "ww"), ("f", "www"), ("f", "wwwq"), ("f", "wwwqq"), ("-3", "www.q"), ("-0", ".ww.w")];
    check(SETTINGS, &script);
}

/// Told to begin, but given up before it could: the place must go to the next.
#[test]
fn a_place_given_to_who_gave_up_goes_on() {
    let admission = Admission::new(AdmissionSettings { most_working: 1, working: [1; 3], waiting: [9; 3] });
    let enter = || admission.enter(Priority::Foreground).expect("room to wait").begin();
    let first = enter().now_or_never().expect("nobody else is there");
    let (mut second, mut third) = (Box::pin(enter()), Box::pin(enter()));
    assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
    drop(first);
    drop(second);
    assert!(third.as_mut().now_or_never().is_some(), "the place was lost");
}
