//! Fewer messages that say the same: Raft's core answers and appends one proposal at a time, and each message costs its
//! receiver more than its bytes.

use raft::eraftpb::{Message, MessageType};

/// Joins messages that are on their way to the same node, in order: appends that continue each other, up to `limit_bytes`,
/// and acknowledgements, of which the last covers those before it.
pub(super) fn coalesce(messages: Vec<Message>, limit_bytes: u64) -> Vec<Message> {
    if messages.len() < 2 {
        return messages;
    }
    let mut joined: Vec<Message> = Vec::with_capacity(messages.len());
    for mut message in messages {
        // Only the last message to the same node may be joined: the order to each is kept.
        let before = joined.iter_mut().rev().find(|before| before.to == message.to);
        let takes = before.is_some_and(|before| match message.get_msg_type() {
            MessageType::MsgAppend if continues(before, &message, limit_bytes) => {
                before.commit = message.commit;
                before.mut_entries().extend(message.take_entries());
                true
            }
            MessageType::MsgAppendResponse if covers(before, &message) => {
                std::mem::swap(before, &mut message);
                true
            }
            _ => false,
        });
        if !takes {
            joined.push(message);
        }
    }
    joined
}

fn bytes(message: &Message) -> u64 {
    message.entries.iter().map(|entry| (entry.data.len() + entry.context.len()) as u64).sum()
}

/// The second append begins where the first one ends.
fn continues(first: &Message, second: &Message, limit_bytes: u64) -> bool {
    let (index, term) = first.entries.last().map_or((first.index, first.log_term), |entry| (entry.index, entry.term));
    first.get_msg_type() == MessageType::MsgAppend
        && first.term == second.term
        && (index, term) == (second.index, second.log_term)
        && first.commit <= second.commit
        && bytes(first) + bytes(second) <= limit_bytes
}

/// The second acknowledgement says all that the first one does.
fn covers(first: &Message, second: &Message) -> bool {
    first.get_msg_type() == MessageType::MsgAppendResponse
        && !first.reject
        && !second.reject
        && first.term == second.term
        && first.index <= second.index
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn append(to: u64, index: u64, entries: u64, commit: u64) -> Message {
        let mut message = Message { to, term: 3, index, log_term: 3, commit, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        let entry = |index| Entry { index, term: 3, data: vec![1; 100].into(), ..Entry::default() };
        message.set_entries((index + 1..=index + entries).map(entry).collect::<Vec<_>>().into());
        message
    }

    fn answer(to: u64, index: u64, reject: bool) -> Message {
        let mut message = Message { to, term: 3, index, reject, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppendResponse);
        message
    }

    /// (to, index, entries, commit) of what comes out.
    fn check(messages: Vec<Message>, expected: &[(u64, u64, usize, u64)]) {
        let joined = coalesce(messages, 1_000);
        let shown: Vec<_> = joined.iter().map(|it| (it.to, it.index, it.entries.len(), it.commit)).collect();
        assert_eq!(shown, expected);
        for message in joined {
            let indices: Vec<u64> = message.entries.iter().map(|entry| entry.index).collect();
            let expected: Vec<u64> = (message.index + 1..).take(indices.len()).collect();
            assert_eq!(indices, expected, "entries follow each other");
        }
    }

    #[test]
    fn appends_that_continue_each_other() {
        check(vec![append(2, 5, 1, 4)], &[(2, 5, 1, 4)]);
        check(vec![append(2, 5, 1, 4), append(2, 6, 2, 5)], &[(2, 5, 3, 5)]);
        let two = vec![append(2, 5, 1, 4), append(3, 5, 1, 4), append(2, 6, 1, 4), append(3, 6, 1, 5)];
        check(two, &[(2, 5, 2, 4), (3, 5, 2, 5)]);
        // An empty one that only tells what is committed.
        check(vec![append(2, 5, 1, 4), append(2, 6, 0, 6)], &[(2, 5, 1, 6)]);
        check(vec![append(2, 5, 0, 4), append(2, 5, 1, 4)], &[(2, 5, 1, 4)]);
        // A gap, a repetition, too many bytes.
        check(vec![append(2, 5, 1, 4), append(2, 7, 1, 4)], &[(2, 5, 1, 4), (2, 7, 1, 4)]);
        check(vec![append(2, 5, 2, 4), append(2, 5, 1, 4)], &[(2, 5, 2, 4), (2, 5, 1, 4)]);
        check(vec![append(2, 5, 6, 4), append(2, 11, 5, 4)], &[(2, 5, 6, 4), (2, 11, 5, 4)]);
        // Another kind in between keeps its place.
        let between = vec![append(2, 5, 1, 4), answer(2, 9, false), append(2, 6, 1, 4)];
        check(between, &[(2, 5, 1, 4), (2, 9, 0, 0), (2, 6, 1, 4)]);
        let mut other_term = append(2, 6, 1, 4);
        other_term.term = 4;
        check(vec![append(2, 5, 1, 4), other_term], &[(2, 5, 1, 4), (2, 6, 1, 4)]);
    }

    #[test]
    fn acknowledgements_of_which_the_last_covers_all() {
        check(vec![answer(1, 5, false), answer(1, 6, false), answer(1, 6, false)], &[(1, 6, 0, 0)]);
        check(vec![answer(1, 5, false), answer(2, 6, false)], &[(1, 5, 0, 0), (2, 6, 0, 0)]);
        check(vec![answer(1, 6, false), answer(1, 5, false)], &[(1, 6, 0, 0), (1, 5, 0, 0)]);
        check(vec![answer(1, 5, true), answer(1, 6, false)], &[(1, 5, 0, 0), (1, 6, 0, 0)]);
        check(vec![answer(1, 5, false), answer(1, 6, true)], &[(1, 5, 0, 0), (1, 6, 0, 0)]);
    }
}
