//! A block: a sorted list of state entries in about three to five bytes each.
//!
//! An entry is packed as differences to the one before it:
//!
//! ```text
//! varint  state key << 1 | 1, varint  type - previous type    when the type is another one
//! varint  (state key - previous state key) << 1               when it is the same
//! signed varint  event - previous event
//! ```
//!
//! The list ends where the bytes end. A block's bytes are checked when the block is made, so that reading it
//! afterwards cannot fail.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{CorruptState, Entry, StateKey, varint};
use crate::nid::{EventNid, RoomNid, StateKeyNid, TypeNid};

/// How many entries lie between two marks: [`Block::get`] reads at most this many.
const MARK_EVERY: usize = 64;

/// Sorted state entries, each key at most once. Immutable, and cheap to clone.
#[derive(Clone)]
pub struct Block(Arc<Packed>);

struct Packed {
    bytes: Box<[u8]>,
    len: usize,
    /// Where reading can start, in ascending order: before every `MARK_EVERY`th entry but the first.
    marks: Box<[Mark]>,
}

/// A place in the bytes, and what was read before it.
#[derive(Clone, Copy)]
struct Mark {
    offset: usize,
    before: Last,
}

/// The entry before the one that is read or written: all zero at the start.
#[derive(Clone, Copy, Default)]
struct Last {
    type_nid: i32,
    state_key: i32,
    event: i64,
}

impl Block {
    /// Packs entries, which may come in any order. Of entries with the same key the last one is kept.
    pub fn pack(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        // Stable, so that entries with the same key stay in the order in which they came.
        entries.sort_by_key(|(key, _)| *key);
        entries.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
        Self::pack_sorted(&entries)
    }

    /// Packs entries that are in ascending order, each key at most once.
    pub(super) fn pack_sorted(entries: &[Entry]) -> Self {
        debug_assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "a block's entries are sorted");
        let mut bytes = Vec::with_capacity(entries.len() * 4);
        let mut marks = Vec::with_capacity(entries.len() / MARK_EVERY);
        let mut last = Last::default();
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 && index % MARK_EVERY == 0 {
                marks.push(Mark { offset: bytes.len(), before: last });
            }
            last.write(&mut bytes, *entry);
        }
        Self::new(bytes, entries.len(), marks)
    }

    /// The block that has these packed bytes, if they are whole and in order.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, CorruptState> {
        let mut marks = Vec::new();
        let mut last = Last::default();
        let mut len = 0;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if len > 0 && len % MARK_EVERY == 0 {
                marks.push(Mark { offset: bytes.len() - rest.len(), before: last });
            }
            let before = last.key();
            let (key, _) = last.read(&mut rest)?;
            if Some(key) <= before {
                return Err(CorruptState::Unsorted);
            }
            len += 1;
        }
        Ok(Self::new(bytes, len, marks))
    }

    fn new(bytes: Vec<u8>, len: usize, marks: Vec<Mark>) -> Self {
        Self(Arc::new(Packed { bytes: bytes.into_boxed_slice(), len, marks: marks.into_boxed_slice() }))
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The packed form, as it is stored.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Its entries, in ascending order of their keys.
    pub fn unpack(&self) -> Entries<'_> {
        Entries { rest: self.bytes(), last: Last::default() }
    }

    /// The event that fills this place, if the block has it.
    pub fn get(&self, key: StateKey) -> Option<EventNid> {
        let marks = &self.0.marks;
        let passed = marks.partition_point(|mark| mark.before.key() < Some(key));
        let start = passed.checked_sub(1).map_or(Mark { offset: 0, before: Last::default() }, |at| marks[at]);
        let mut entries = Entries { rest: &self.bytes()[start.offset..], last: start.before };
        entries.find(|(found, _)| *found >= key).filter(|(found, _)| *found == key).map(|(_, event)| event)
    }

    /// What the block is known by: two blocks of a room with the same entries have the same hash.
    pub fn hash(&self, room: RoomNid) -> [u8; 32] {
        Sha256::new().chain_update(room.get().to_be_bytes()).chain_update(self.bytes()).finalize().into()
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Block {}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.unpack()).finish()
    }
}

/// A block's entries, in ascending order of their keys.
#[derive(Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    last: Last,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.last.read(&mut self.rest).expect("a block's bytes were checked when it was made"))
    }
}

impl Last {
    /// `None` at the start, before any entry.
    fn key(self) -> Option<StateKey> {
        Some((TypeNid::new(self.type_nid)?, StateKeyNid::new(self.state_key)?))
    }

    fn write(&mut self, out: &mut Vec<u8>, ((type_nid, state_key), event): Entry) {
        let (type_nid, state_key, event) = (type_nid.get(), state_key.get(), event.get());
        let same_type = type_nid == self.type_nid;
        let key = if same_type { state_key - self.state_key } else { state_key };
        varint::write(out, u64::from(key.cast_unsigned()) << 1 | u64::from(!same_type));
        if !same_type {
            varint::write(out, u64::from((type_nid - self.type_nid).cast_unsigned()));
        }
        // Both are positive, so the difference cannot overflow.
        varint::write_signed(out, event - self.event);
        *self = Self { type_nid, state_key, event };
    }

    fn read(&mut self, bytes: &mut &[u8]) -> Result<Entry, CorruptState> {
        let head = varint::read(bytes)?;
        let key = i32::try_from(head >> 1).map_err(|_| CorruptState::OutOfRange)?;
        let (type_nid, state_key) = if head & 1 == 1 {
            let step = i32::try_from(varint::read(bytes)?).map_err(|_| CorruptState::OutOfRange)?;
            if step == 0 {
                return Err(CorruptState::Unsorted);
            }
            (self.type_nid.checked_add(step), Some(key))
        } else {
            (Some(self.type_nid), self.state_key.checked_add(key))
        };
        let event = self.event.checked_add(varint::read_signed(bytes)?);
        let entry =
            (|| Some(((TypeNid::new(type_nid?)?, StateKeyNid::new(state_key?)?), EventNid::new(event?)?)))();
        let ((type_nid, state_key), event) = entry.ok_or(CorruptState::OutOfRange)?;
        *self = Self { type_nid: type_nid.get(), state_key: state_key.get(), event: event.get() };
        Ok(((type_nid, state_key), event))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn entry(((type_nid, state_key), event): ((i32, i32), i64)) -> Entry {
        let key = (TypeNid::new(type_nid).unwrap(), StateKeyNid::new(state_key).unwrap());
        (key, EventNid::new(event).unwrap())
    }

    #[test]
    fn an_entry_takes_few_bytes() {
        let members =
            (1..=1000).map(|n| entry(((5, 2_000_000 + n), 80_000_000 + i64::from(n * 7919 % 1000))));
        let bytes = Block::pack(members).bytes().len();
        assert!(bytes < 3 * 1000 + 10, "{bytes} bytes for 1000 members in one room");

        let scattered = (1..=1000).map(|n| entry(((5, n * 1_000), i64::from(n * 7919 % 1000) * 40_000 + 1)));
        let bytes = Block::pack(scattered).bytes().len();
        assert!(bytes < 6 * 1000 + 10, "{bytes} bytes for 1000 members on a large server");

        assert!(Block::pack([entry(((5, 2_000_000), 80_000_000))]).bytes().len() <= 9);
    }

    #[test]
    fn corrupt_bytes_are_refused() {
        let good = Block::pack([entry(((5, 7), 100)), entry(((5, 9), 90)), entry(((6, 1), 95))]);
        assert!(Block::from_bytes(good.bytes().to_vec()).is_ok());
        for (bytes, why) in [
            (&[0x0f][..], CorruptState::Truncated),
            (&[0x0f, 5], CorruptState::Truncated),
            (&[0x0f, 5, 0x80], CorruptState::Truncated),
            // no type before the first entry
            (&[0x0e, 2], CorruptState::OutOfRange),
            // type changed by 0
            (&[0x0f, 0, 2], CorruptState::Unsorted),
            // state key 0, event 0, event -1
            (&[0x01, 5, 2], CorruptState::OutOfRange),
            (&[0x0f, 5, 0], CorruptState::OutOfRange),
            (&[0x0f, 5, 1], CorruptState::OutOfRange),
            // the same key twice
            (&[0x0f, 5, 2, 0, 2], CorruptState::Unsorted),
            // state key above an i32
            (&[0x83, 0x80, 0x80, 0x80, 0x10, 5, 2], CorruptState::OutOfRange),
        ] {
            assert_eq!(Block::from_bytes(bytes.to_vec()), Err(why), "{bytes:x?}");
        }
    }

    #[test]
    fn room_and_entries_are_the_hash() {
        let (one, two) = (RoomNid::new(1).unwrap(), RoomNid::new(2).unwrap());
        let block = Block::pack([entry(((5, 7), 100))]);
        assert_eq!(block.hash(one), Block::from_bytes(block.bytes().to_vec()).unwrap().hash(one));
        assert_ne!(block.hash(one), block.hash(two));
        assert_ne!(block.hash(one), Block::pack([entry(((5, 7), 101))]).hash(one));
    }

    #[test]
    fn of_two_entries_with_one_key_the_later_is_kept() {
        let block =
            Block::pack([entry(((5, 7), 1)), entry(((1, 1), 9)), entry(((5, 7), 3)), entry(((5, 7), 2))]);
        assert_eq!(block.unpack().collect::<Vec<_>>(), [entry(((1, 1), 9)), entry(((5, 7), 2))]);
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(
            entries in vec(((1..40_i32, prop_oneof![1..200_i32, 1..=i32::MAX]), 1..=i64::MAX), 0..400),
            probes in vec((1..40_i32, 1..200_i32), 50),
        ) {
            let model: BTreeMap<_, _> = entries.iter().copied().map(entry).collect();
            let packed = Block::pack(entries.iter().copied().map(entry));
            let block = Block::from_bytes(packed.bytes().to_vec()).expect("packed bytes are whole");
            for block in [&packed, &block] {
                prop_assert_eq!(block.len(), model.len());
                prop_assert!(block.unpack().eq(model.iter().map(|(k, e)| (*k, *e))));
                for key in model.keys().copied().chain(probes.iter().map(|key| entry((*key, 1)).0)) {
                    prop_assert_eq!(block.get(key), model.get(&key).copied());
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(block) = Block::from_bytes(bytes.clone()) {
                let packed_again = Block::pack(block.unpack());
                prop_assert_eq!(packed_again.bytes(), &bytes);
            }
        }

        #[test]
        fn damaged_bytes_are_read_or_refused(
            entries in vec(((1..9_i32, 1..999_i32), 1..9999_i64), 1..40),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let mut bytes = Block::pack(entries.into_iter().map(entry)).bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(block) = Block::from_bytes(bytes.clone()) {
                let packed_again = Block::pack(block.unpack());
                prop_assert_eq!(packed_again.bytes(), &bytes);
            }
        }
    }
}
