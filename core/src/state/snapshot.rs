//! The stored form of a snapshot: the NIDs of its blocks, in the order in which they apply.
//!
//! Packed as signed varint differences, the first one to 0: blocks of one room tend to be made one soon after
//! the other.

use sha2::{Digest, Sha256};

use super::{CorruptState, varint};
use crate::nid::{BlockNid, RoomNid};

/// No snapshot has more blocks than this.
pub const MAX_BLOCKS: usize = 64;

/// A snapshot's blocks; later ones win. Never more than [`MAX_BLOCKS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotBlocks(Vec<BlockNid>);

impl SnapshotBlocks {
    /// A snapshot of these blocks, if they are not too many.
    pub fn new(blocks: Vec<BlockNid>) -> Result<Self, CorruptState> {
        if blocks.len() > MAX_BLOCKS { Err(CorruptState::TooManyBlocks) } else { Ok(Self(blocks)) }
    }

    /// The blocks, the oldest first.
    pub fn blocks(&self) -> &[BlockNid] {
        &self.0
    }

    /// The packed form, as it is stored.
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 3);
        let mut last = 0;
        for block in &self.0 {
            varint::write_signed(&mut bytes, block.get() - last);
            last = block.get();
        }
        bytes
    }

    /// The snapshot that has this packed form.
    pub fn unpack(mut bytes: &[u8]) -> Result<Self, CorruptState> {
        let mut blocks = Vec::new();
        let mut last = 0_i64;
        while !bytes.is_empty() {
            if blocks.len() == MAX_BLOCKS {
                return Err(CorruptState::TooManyBlocks);
            }
            let block = last.checked_add(varint::read_signed(&mut bytes)?).and_then(BlockNid::new);
            let block = block.ok_or(CorruptState::OutOfRange)?;
            last = block.get();
            blocks.push(block);
        }
        Ok(Self(blocks))
    }

    /// What the snapshot is known by: two snapshots of a room with the same blocks have the same hash.
    pub fn hash(&self, room: RoomNid) -> [u8; 32] {
        Sha256::new().chain_update(room.get().to_be_bytes()).chain_update(self.pack()).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn snapshot(numbers: &[i64]) -> SnapshotBlocks {
        let blocks = numbers.iter().filter_map(|number| BlockNid::new(*number)).collect();
        SnapshotBlocks::new(blocks).expect("few enough blocks")
    }

    #[test]
    fn neighbouring_blocks_take_one_byte_each() {
        assert_eq!(snapshot(&[1_000_000, 1_000_001, 1_000_002]).pack().len(), 3 + 2);
    }

    #[test]
    fn order_and_room_are_part_of_the_hash() {
        let (one, two) = (RoomNid::new(1).unwrap(), RoomNid::new(2).unwrap());
        assert_ne!(snapshot(&[1, 2]).hash(one), snapshot(&[2, 1]).hash(one));
        assert_ne!(snapshot(&[1, 2]).hash(one), snapshot(&[1, 2]).hash(two));
    }

    #[test]
    fn more_than_the_most_blocks_are_refused() {
        let bytes = vec![2; MAX_BLOCKS + 1];
        assert_eq!(SnapshotBlocks::unpack(&bytes), Err(CorruptState::TooManyBlocks));
        assert!(SnapshotBlocks::unpack(&bytes[1..]).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(numbers in vec(1..i64::MAX, 0..=MAX_BLOCKS)) {
            let snapshot = snapshot(&numbers);
            prop_assert_eq!(SnapshotBlocks::unpack(&snapshot.pack()), Ok(snapshot));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(snapshot) = SnapshotBlocks::unpack(&bytes) {
                prop_assert_eq!(snapshot.pack(), bytes);
            }
        }
    }
}
