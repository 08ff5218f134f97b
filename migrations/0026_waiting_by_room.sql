-- A room that is loaded asks whether redactions wait in it.

CREATE INDEX waiting_redactions_by_room ON waiting_redactions (room_nid);
