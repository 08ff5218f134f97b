//! Rooms, their directory, and who is online.

use ruma::RoomVersionId;

use super::section::section;

section! {
    /// Rooms that are made here.
    pub struct RoomsConfig {
        /// Their version, unless the client asks for another.
        default_version: RoomVersionId = RoomVersionId::V12;
        /// Whether messages lose their content at the time that they name, if they do, in `org.matrix.self_destruct_after`
        /// (MSC2228). Other servers may keep it.
        self_destructing_messages: bool = false;
    }
}

section! {
    /// The directory of public rooms.
    pub struct RoomDirectoryConfig {
        /// Whether it can be read without an account.
        allow_without_auth: bool = false;
        /// Whether other servers can read it.
        allow_over_federation: bool = true;
    }
}

section! {
    /// Who is online.
    pub struct PresenceConfig {
        /// Whether users see it of each other.
        enabled: bool = true;
    }
}
