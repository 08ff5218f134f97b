//! A snapshot that grows: blocks in geometric tiers, like those of a log-structured merge tree.
//!
//! A block of n entries is of tier `floor(log(n))` to the base of the fan-out. From the oldest block to the
//! newest, tiers never rise, and fewer blocks than the fan-out are of one tier. A change is a new block at the
//! end; the blocks there that would break the rule are merged into it. So an entry is written again only when it
//! rises to a higher tier, which happens O(log n) times, and a snapshot has O(log n) blocks.
//!
//! Only blocks at the end are ever merged, since later blocks win.

use super::{Block, CorruptState, Entry, SnapshotBlocks, StateKey, StateMap, snapshot::MAX_BLOCKS};
use crate::nid::{BlockNid, EventNid};

/// So many blocks of one tier become one block of a higher tier.
///
/// For 20,000 joins, fan-outs from 2 to 6 take within 10 % the same bytes (see `state_takes_few_bytes`); more makes
/// snapshots longer, less makes more of the entries be written again.
pub const FAN_OUT: usize = 4;

/// A block of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// `None` until the block has been given one to be stored under.
    pub nid: Option<BlockNid>,
    /// The entries.
    pub block: Block,
}

/// A whole state as a list of blocks; later ones win. Never more than [`MAX_BLOCKS`]. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// A stored snapshot. `block` gives the snapshot's blocks by their NIDs.
    pub fn from_stored(
        snapshot: &SnapshotBlocks,
        mut block: impl FnMut(BlockNid) -> Option<Block>,
    ) -> Result<Self, CorruptState> {
        let layer = |nid: &BlockNid| match block(*nid) {
            Some(block) => Ok(Layer { nid: Some(*nid), block }),
            None => Err(CorruptState::MissingBlock(*nid)),
        };
        snapshot.blocks().iter().map(layer).collect::<Result<_, _>>().map(Self)
    }

    /// The whole state in one new block.
    pub fn from_map(state: &StateMap) -> Self {
        let entries: Vec<Entry> = state.iter().map(|(key, event)| (*key, *event)).collect();
        if entries.is_empty() {
            return Self::default();
        }
        Self(vec![Layer { nid: None, block: Block::pack_sorted(&entries) }])
    }

    /// This state with these entries added, replacing those with the same keys. Of entries with the same key the
    /// last one wins. At most one block of the result is new: the last one.
    #[must_use]
    pub fn append(&self, delta: &[Entry]) -> Self {
        self.append_with(FAN_OUT, delta)
    }

    /// `next`, written as what changed since this state if nothing vanished, else as a whole. Either way at most
    /// one block of the result is new.
    ///
    /// `map` is this state as a map; the more the two maps share, the cheaper the comparison.
    #[must_use]
    pub fn advance(&self, map: &StateMap, next: &StateMap) -> Self {
        delta_from(map, next).map_or_else(|| Self::from_map(next), |delta| self.append(&delta))
    }

    fn append_with(&self, fan_out: usize, delta: &[Entry]) -> Self {
        if delta.is_empty() {
            return self.clone();
        }
        let mut kept = &self.0[..];
        let mut block = Block::pack(delta.iter().copied());
        loop {
            let absorbed = count_absorbed(kept, tier(block.len(), fan_out), fan_out);
            if absorbed == 0 {
                break;
            }
            let (rest, merged) = kept.split_at(kept.len() - absorbed);
            block = merge(merged, &block);
            kept = rest;
        }
        let mut layers = Vec::with_capacity(kept.len() + 1);
        layers.extend_from_slice(kept);
        layers.push(Layer { nid: None, block });
        Self(layers)
    }

    /// The blocks, the oldest first.
    pub fn layers(&self) -> &[Layer] {
        &self.0
    }

    /// Gives a NID to every block that has none. `next` is asked once for each, the oldest first, and may answer
    /// with the NID of a stored block that is equal.
    pub fn name_new(&mut self, mut next: impl FnMut(&Block) -> BlockNid) {
        for layer in &mut self.0 {
            if layer.nid.is_none() {
                layer.nid = Some(next(&layer.block));
            }
        }
    }

    /// The stored form. `None` while a block has no NID.
    pub fn snapshot(&self) -> Option<SnapshotBlocks> {
        let nids: Option<Vec<BlockNid>> = self.0.iter().map(|layer| layer.nid).collect();
        Some(SnapshotBlocks::new(nids?).expect("layers are never more than a snapshot's blocks"))
    }

    /// The event that fills this place.
    pub fn get(&self, key: StateKey) -> Option<EventNid> {
        self.0.iter().rev().find_map(|layer| layer.block.get(key))
    }

    /// The whole state.
    pub fn to_map(&self) -> StateMap {
        let mut blocks = self.0.iter().map(|layer| &layer.block);
        let mut state: StateMap = blocks.next().into_iter().flat_map(Block::unpack).collect();
        for (key, event) in blocks.flat_map(Block::unpack) {
            state.insert(key, event);
        }
        state
    }

    /// The whole state, made from `map`, which is that of `other`: the two share what is in the blocks that both
    /// have, so that comparing them later costs only what they differ in.
    pub fn to_map_like(&self, other: &Self, map: &StateMap) -> StateMap {
        let pairs = self.0.iter().zip(&other.0);
        let shared = pairs.take_while(|(one, other)| one.nid.is_some() && one.nid == other.nid).count();
        let differing = || self.0[shared..].iter().chain(&other.0[shared..]).map(|layer| &layer.block);
        if differing().map(Block::len).sum::<usize>() > map.len() / 2 {
            return self.to_map();
        }
        let mut state = map.clone();
        for (key, _) in differing().flat_map(Block::unpack) {
            match self.get(key) {
                Some(event) if map.get(&key) == Some(&event) => {}
                Some(event) => drop(state.insert(key, event)),
                None => drop(state.remove(&key)),
            }
        }
        state
    }
}

/// What must be written over `old` to get `new`, sorted. `None` when a key of `old` is missing from `new`: a block
/// cannot say that, so the new state must be written whole.
pub fn delta_from(old: &StateMap, new: &StateMap) -> Option<Vec<Entry>> {
    use imbl::ordmap::DiffItem;

    old.diff(new)
        .map(|change| match change {
            DiffItem::Add(key, event) | DiffItem::Update { new: (key, event), .. } => Some((*key, *event)),
            DiffItem::Remove(..) => None,
        })
        .collect()
}

/// How many of the last layers must go into a new block of this tier.
fn count_absorbed(kept: &[Layer], tier_of_new: u32, fan_out: usize) -> usize {
    let tiers = || kept.iter().rev().map(|layer| tier(layer.block.len(), fan_out));
    let lower = tiers().take_while(|tier| *tier < tier_of_new).count();
    if lower > 0 {
        return lower;
    }
    let equal = tiers().take_while(|tier| *tier == tier_of_new).count();
    if equal + 1 >= fan_out {
        return equal;
    }
    // Reached only from a layout that was stored under another fan-out.
    (kept.len() + 1).saturating_sub(MAX_BLOCKS)
}

fn tier(len: usize, fan_out: usize) -> u32 {
    len.max(1).ilog(fan_out)
}

/// One block with the entries of all of them, later ones winning.
fn merge(older: &[Layer], newest: &Block) -> Block {
    let mut blocks = older.iter().map(|layer| &layer.block).chain([newest]);
    let first: Vec<Entry> = blocks.next().into_iter().flat_map(Block::unpack).collect();
    Block::pack_sorted(&blocks.fold(first, |merged, block| merge_two(&merged, block)))
}

fn merge_two(older: &[Entry], newer: &Block) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(older.len() + newer.len());
    let mut older = older;
    for entry in newer.unpack() {
        let below = older.partition_point(|(key, _)| *key < entry.0);
        merged.extend_from_slice(&older[..below]);
        merged.push(entry);
        let replaced = older.get(below).is_some_and(|(key, _)| *key == entry.0);
        older = &older[below + usize::from(replaced)..];
    }
    merged.extend_from_slice(older);
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::nid::{StateKeyNid, TypeNid};

    type Model = BTreeMap<StateKey, EventNid>;

    fn key(type_nid: i32, state_key: i32) -> StateKey {
        (TypeNid::new(type_nid).unwrap(), StateKeyNid::new(state_key).unwrap())
    }

    fn event(nid: i64) -> EventNid {
        EventNid::new(nid).unwrap()
    }

    fn check(layers: &Layers, model: &Model) {
        let map = layers.to_map();
        assert!(map.iter().eq(model.iter()), "{layers:?} is not {model:?}");
        for type_nid in 1..4 {
            for state_key in 1..12 {
                let key = key(type_nid, state_key);
                assert_eq!(layers.get(key), model.get(&key).copied(), "{key:?} of {layers:?}");
            }
        }
        assert!(layers.layers().len() <= MAX_BLOCKS);
    }

    fn check_tiers(layers: &Layers, fan_out: usize) {
        let tiers: Vec<u32> = layers.0.iter().map(|layer| tier(layer.block.len(), fan_out)).collect();
        assert!(tiers.is_sorted_by(|a, b| a >= b), "tiers rise: {tiers:?}");
        assert!(tiers.chunk_by(|a, b| a == b).all(|same| same.len() < fan_out), "tiers are full: {tiers:?}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A state event after some earlier state.
        Append(Index, Vec<((i32, i32), i64)>),
        /// Two earlier states meet: the first, with some entries of the second (bits of the mask). When the flag
        /// is set, keys of the first that the second does not have vanish.
        Merge(Index, Index, u64, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let entry = ((1..4, 1..12), 1_i64..1_000_000);
        let step = prop_oneof![
            4 => (any::<Index>(), vec(entry.clone(), 1..3)).prop_map(|(at, delta)| Step::Append(at, delta)),
            1 => (any::<Index>(), vec(entry, 5..30)).prop_map(|(at, delta)| Step::Append(at, delta)),
            2 => any::<(Index, Index, u64, bool)>().prop_map(|(a, b, mask, cut)| Step::Merge(a, b, mask, cut)),
        ];
        vec(step, 1..120)
    }

    fn run(step: &Step, states: &[(Layers, Model)], fan_out: usize) -> (Layers, Model) {
        match step {
            Step::Append(at, delta) => {
                let (layers, mut model) = at.get(states).clone();
                let delta: Vec<Entry> = delta.iter().map(|((t, k), e)| (key(*t, *k), event(*e))).collect();
                model.extend(delta.iter().copied());
                (layers.append_with(fan_out, &delta), model)
            }
            Step::Merge(first, second, mask, cut) => {
                let ((layers, model), (_, other)) = (first.get(states), second.get(states));
                let mut merged = model.clone();
                if *cut {
                    merged.retain(|key, _| other.contains_key(key));
                }
                let chosen = other.iter().enumerate().filter(|(index, _)| mask >> (index % 64) & 1 == 1);
                merged.extend(chosen.map(|(_, (key, event))| (*key, *event)));
                let (old, new) = (layers.to_map(), merged.iter().map(|(k, e)| (*k, *e)).collect());
                let next = delta_from(&old, &new)
                    .map_or_else(|| Layers::from_map(&new), |delta| layers.append_with(fan_out, &delta));
                (next, merged)
            }
        }
    }

    proptest! {
        #[test]
        fn snapshots_equal_the_replay_of_the_state(steps in steps(), fan_out in 2_usize..17) {
            let mut states = vec![(Layers::default(), Model::new())];
            for step in &steps {
                let next = run(step, &states, fan_out);
                check(&next.0, &next.1);
                check_tiers(&next.0, fan_out);
                states.push(next);
            }
        }

        #[test]
        fn the_layout_is_kept_in_bounds_when_the_fan_out_changes(
            steps in vec((1_i32..2000, 2_usize..100), 1..600),
        ) {
            let mut layers = Layers::default();
            for (state_key, fan_out) in steps {
                layers = layers.append_with(fan_out, &[(key(5, state_key), event(1))]);
                prop_assert!(layers.layers().len() <= MAX_BLOCKS);
            }
        }
    }

    #[test]
    fn at_most_the_last_block_is_new() {
        let mut layers = Layers::default();
        let mut next = 0;
        for state_key in 1..500 {
            layers = layers.append(&[(key(5, state_key), event(1))]);
            let unnamed = layers.0.iter().rposition(|layer| layer.nid.is_none());
            assert_eq!(unnamed, Some(layers.0.len() - 1));
            assert_eq!(layers.snapshot(), None);
            layers.name_new(|_| {
                next += 1;
                BlockNid::new(next).unwrap()
            });
            assert_eq!(layers.snapshot().unwrap().blocks().len(), layers.0.len());
        }
        assert_eq!(next, 499, "one block for each state event");
    }

    #[test]
    fn a_stored_snapshot_is_the_layers_it_was() {
        let mut layers = (1..50).fold(Layers::default(), |layers, state_key| {
            layers.append(&[(key(5, state_key), event(i64::from(state_key)))])
        });
        let mut stored = Vec::new();
        layers.name_new(|block| {
            stored.push(block.bytes().to_vec());
            BlockNid::new(i64::try_from(stored.len()).unwrap()).unwrap()
        });
        let snapshot = SnapshotBlocks::unpack(&layers.snapshot().unwrap().pack()).unwrap();
        let block = |nid: BlockNid| {
            let bytes = stored.get(usize::try_from(nid.get()).ok()? - 1)?;
            Block::from_bytes(bytes.clone()).ok()
        };
        assert_eq!(Layers::from_stored(&snapshot, block), Ok(layers));
        let missing = Err(CorruptState::MissingBlock(snapshot.blocks()[0]));
        assert_eq!(Layers::from_stored(&snapshot, |_| None), missing);
    }

    #[test]
    fn a_vanished_key_makes_one_whole_block() {
        let old: StateMap = (1..20).map(|k| (key(5, k), event(1))).collect();
        let layers = Layers::from_map(&old).append(&[(key(1, 1), event(2))]);
        let new = old.without(&key(5, 3));
        assert_eq!(delta_from(&old, &new), None);
        assert_eq!(layers.advance(&layers.to_map(), &new), Layers::from_map(&new));
        assert_eq!(Layers::from_map(&StateMap::new()).layers(), []);
        assert_eq!(layers.append(&[]), layers);
    }

    #[test]
    fn a_map_made_from_another_is_the_same() {
        let steps: Vec<Entry> =
            (0..300).map(|n| (key(5, n * 7 % 120 + 1), event(i64::from(n) + 1))).collect();
        let mut nid = 0;
        let mut all = vec![Layers::default()];
        for entry in steps {
            let from = all.len() - 1 - if all.len() % 9 == 0 { 5 } else { 0 };
            let mut layers = all[from].append(&[entry]);
            layers.name_new(|_| {
                nid += 1;
                BlockNid::new(nid).unwrap()
            });
            all.push(layers);
        }
        for one in all.iter().step_by(7) {
            for other in all.iter().step_by(11) {
                assert_eq!(one.to_map_like(other, &other.to_map()), one.to_map());
            }
        }
    }

    /// Rows of `n` joins in sequence: (entries, bytes of blocks, bytes of snapshots).
    fn written(fan_out: usize, keys: impl Iterator<Item = i32>) -> (usize, usize, usize) {
        let mut layers = Layers::default();
        let (mut entries, mut block_bytes, mut snapshot_bytes, mut nid) = (0, 0, 0, 1_000_000);
        for (index, state_key) in (0..).zip(keys) {
            layers = layers.append_with(fan_out, &[(key(5, state_key), event(5_000_000 + index))]);
            layers.name_new(|block| {
                entries += block.len();
                block_bytes += block.bytes().len();
                nid += 1;
                BlockNid::new(nid).unwrap()
            });
            snapshot_bytes += layers.snapshot().unwrap().pack().len();
        }
        (entries, block_bytes, snapshot_bytes)
    }

    #[test]
    fn written_entries_grow_with_the_logarithm() {
        for n in [100_i32, 1_000, 10_000] {
            let (entries, ..) = written(FAN_OUT, 1..=n);
            let n = usize::try_from(n).unwrap();
            let most = n * (2 + tier(n, FAN_OUT) as usize);
            assert!(
                entries <= most,
                "{entries} entries written for {n} state events, at most {most} expected"
            );
        }
    }

    /// What Postgres takes for a row of `state_blocks` or `state_snapshots` and its two index entries, besides the
    /// packed column: header and line pointer 28, two NIDs 16, hash 33, length 1, padding 4 on average; index by
    /// NID 20 (pages 90 % full); index by hash 52 (pages 70 % full).
    const ROW: usize = 28 + 16 + 33 + 1 + 4 + 20 * 10 / 9 + 52 * 10 / 7;

    #[test]
    fn state_takes_few_bytes() {
        let joins = 20_000;
        // In sequence, and in an order in which neighbours in time are not neighbours in the block.
        for keys in [(0..joins).collect::<Vec<i32>>(), (0..joins).map(|k| k * 7919 % joins).collect()] {
            let (_, blocks, snapshots) = written(FAN_OUT, keys.iter().map(|k| 300_000 + k));
            let each = 2 * ROW + (blocks + snapshots) / keys.len();
            println!("{each} bytes a state event: {blocks} in blocks, {snapshots} in snapshots");
            assert!(each < 500, "{each} bytes for a state event");
        }
    }
}
