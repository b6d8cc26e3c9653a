//! The clock with its queue, and links.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// What is to happen, in the order of its time; of two at the same time the one that was queued first.
pub struct Queue<E> {
    now_ms: u64,
    count: u64,
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Queue<E> {
    /// Nothing queued yet.
    pub fn new(now_ms: u64) -> Queue<E> {
        Queue { now_ms, count: 0, events: BTreeMap::new() }
    }

    /// Simulated milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Queues an event; one in the past comes at once.
    pub fn at(&mut self, at_ms: u64, event: E) {
        self.count += 1;
        self.events.insert((at_ms.max(self.now_ms), self.count), event);
    }

    /// Queues an event some milliseconds from now.
    pub fn after(&mut self, wait_ms: u64, event: E) {
        self.at(self.now_ms.saturating_add(wait_ms), event);
    }

    /// The next event; the clock moves to it.
    pub fn pop(&mut self) -> Option<E> {
        let ((at_ms, _), event) = self.events.pop_first()?;
        self.now_ms = at_ms;
        Some(event)
    }
}

/// Streams of one link. Messages of one stream keep their order, streams overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Orders to the hospital.
    Orders,
    /// Its reports.
    Reports,
    /// Its masked vector.
    Upload,
    /// Answers on the vector's stream.
    Replies,
    /// A model state it asked for.
    State,
    /// An action for the ledger.
    Append,
}

/// The link of one hospital, as it really is.
#[derive(Default)]
pub struct Link {
    /// Whether it lives.
    pub up: bool,
    /// Counts its lives: what was sent in an earlier one never arrives.
    pub life: u64,
    busy_until_ms: BTreeMap<Stream, u64>,
}

impl Link {
    /// When something sent now arrives.
    pub fn arrival_ms(&mut self, now_ms: u64, stream: Stream, dice: &mut Dice, delay_ms_max: u64) -> u64 {
        let before_ms = self.busy_until_ms.get(&stream).copied().unwrap_or(0);
        let at_ms = now_ms.saturating_add(dice.between(1, delay_ms_max)).max(before_ms);
        self.busy_until_ms.insert(stream, at_ms);
        at_ms
    }

    /// A new life.
    pub fn connect(&mut self) {
        self.up = true;
        self.life += 1;
        self.busy_until_ms.clear();
    }

    /// The end of this one.
    pub fn cut(&mut self) {
        self.up = false;
        self.life += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_time_and_then_of_their_queueing() {
        let mut queue = Queue::new(10);
        queue.after(5, 'c');
        queue.at(3, 'a');
        queue.after(5, 'd');
        queue.after(2, 'b');
        let order: Vec<(char, u64)> = std::iter::from_fn(|| queue.pop().map(|event| (event, queue.now_ms()))).collect();
        assert_eq!(order, [('a', 10), ('b', 12), ('c', 15), ('d', 15)]);
    }

    #[test]
    fn one_stream_keeps_its_order_and_two_do_not() {
        let (mut link, mut dice) = (Link::default(), Dice::new(1, 0));
        let mut send = |stream| link.arrival_ms(0, stream, &mut dice, 1000);
        let orders: Vec<u64> = (0..20).map(|_| send(Stream::Orders)).collect();
        assert!(orders.is_sorted());
        assert!(send(Stream::Reports) < orders[19]);
    }
}
