//! Room versions: what each one changes, looked up by its id.
//!
//! The rules themselves are ruma's. This module only decides which versions exist for us (1 to 12) and hands
//! them out by `'static` reference, so that an event can carry its version for the price of a pointer.

use std::sync::LazyLock;

use ruma::RoomVersionId;
use ruma::room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules, StateResolutionVersion};

/// A room version that we support.
#[derive(Debug)]
pub struct RoomVersion {
    /// The version's id, such as `12`.
    pub id: RoomVersionId,
    /// What the version changes.
    pub rules: RoomVersionRules,
}

/// The state resolution algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateResolution {
    /// Room version 1.
    V1,
    /// Room versions 2 to 11.
    V2,
    /// Room version 12: version 2, starting from an empty state and considering the conflicted subgraph.
    V2_1,
}

static VERSIONS: LazyLock<Vec<RoomVersion>> = LazyLock::new(|| {
    let ids = [
        RoomVersionId::V1,
        RoomVersionId::V2,
        RoomVersionId::V3,
        RoomVersionId::V4,
        RoomVersionId::V5,
        RoomVersionId::V6,
        RoomVersionId::V7,
        RoomVersionId::V8,
        RoomVersionId::V9,
        RoomVersionId::V10,
        RoomVersionId::V11,
        RoomVersionId::V12,
    ];
    ids.into_iter().filter_map(|id| id.rules().map(|rules| RoomVersion { id, rules })).collect()
});

/// Every supported version, oldest first.
pub fn all() -> &'static [RoomVersion] {
    &VERSIONS
}

/// The version with this id. `None`: we do not support it.
pub fn find(id: &RoomVersionId) -> Option<&'static RoomVersion> {
    VERSIONS.iter().find(|version| version.id == *id)
}

/// The version with this id, given as a string.
pub fn find_str(id: &str) -> Option<&'static RoomVersion> {
    VERSIONS.iter().find(|version| version.id.as_str() == id)
}

impl PartialEq for RoomVersion {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for RoomVersion {}

impl RoomVersion {
    /// The state resolution algorithm of the version.
    pub fn stateres(&self) -> StateResolution {
        match &self.rules.state_res {
            StateResolutionVersion::V2(rules) if rules.consider_conflicted_state_subgraph => {
                StateResolution::V2_1
            }
            StateResolutionVersion::V2(_) => StateResolution::V2,
            _ => StateResolution::V1,
        }
    }

    /// Events carry their own id (versions 1 and 2), instead of being named by their hash.
    pub fn events_carry_ids(&self) -> bool {
        self.rules.event_format.require_event_id
    }

    /// Events are referred to as `[id, {hashes}]` (versions 1 and 2), instead of by id alone.
    pub fn references_carry_hashes(&self) -> bool {
        self.rules.events_reference_format == EventsReferenceFormatVersion::V1
    }

    /// The room's id is derived from its create event, which carries none (version 12).
    pub fn room_id_is_create_id(&self) -> bool {
        self.rules.authorization.room_create_event_id_as_room_id
    }

    /// A redaction names its target in `content.redacts` (version 11 and later), instead of beside the content.
    pub fn redacts_in_content(&self) -> bool {
        self.rules.redaction.content_field_redacts
    }

    /// Numbers must be canonical JSON integers (version 6 and later).
    pub fn is_strict_json(&self) -> bool {
        self.rules.authorization.strict_canonical_json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_1_to_12_are_supported_in_order() {
        let ids: Vec<&str> = all().iter().map(|version| version.id.as_str()).collect();
        assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]);
        assert!(find_str("13").is_none());
        assert_eq!(find(&RoomVersionId::V9), find_str("9"));
    }

    #[test]
    fn each_version_has_its_formats() {
        for (number, version) in (1..).zip(all()) {
            assert_eq!(version.events_carry_ids(), number <= 2, "{number}");
            assert_eq!(version.references_carry_hashes(), number <= 2, "{number}");
            assert_eq!(version.is_strict_json(), number >= 6, "{number}");
            assert_eq!(version.redacts_in_content(), number >= 11, "{number}");
            assert_eq!(version.room_id_is_create_id(), number == 12, "{number}");
            let expected = match number {
                1 => StateResolution::V1,
                12 => StateResolution::V2_1,
                _ => StateResolution::V2,
            };
            assert_eq!(version.stateres(), expected, "{number}");
        }
    }
}
