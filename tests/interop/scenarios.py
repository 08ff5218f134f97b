"""What users of two servers do together. Each scenario runs in both directions and in several room versions.

`here` and `there` are the two servers: the room is made here.
"""

import time

from gate import apart
from people import PATIENCE, Refused, User, eventually, quoted, section

#: name -> (function, the first room version it works in)
SCENARIOS = {}


def scenario(since=1):
    """Adds a function to the scenarios."""
    def add(function):
        SCENARIOS[function.__name__] = (function, since)
        return function
    return add


def pair(here, there):
    """A user on each."""
    return User(here, "alice"), User(there, "bob")


def shared_room(alice, bob, version, **options):
    """A public room of alice's that bob has joined."""
    room = alice.create_room(version, preset="public_chat", **options)
    bob.join(room, alice.server)
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")
    return room


def heard(user, room, text):
    """Waits until the message has come."""
    def condition():
        return text in user.history(room)
    eventually(f"{text!r} at {user.id}", condition)


@scenario()
def join_and_talk(here, there, version):
    """A public room is joined and messages go both ways."""
    alice, bob = pair(here, there)
    room = alice.create_room(version, preset="public_chat", name="Tea", topic="Milk first?")
    alice.say(room, "before")
    bob.join(room, here)
    assert bob.state(room, "m.room.name") == {"name": "Tea"}
    assert bob.state(room, "m.room.topic")["topic"] == "Milk first?"
    assert alice.membership_of(room, bob) == "join"
    alice.say(room, "hello bob")
    heard(bob, room, "hello bob")
    bob.say(room, "hello alice")
    heard(alice, room, "hello alice")


@scenario()
def join_by_alias(here, there, version):
    """The alias of a room of another server leads there."""
    alice, bob = pair(here, there)
    local = f"room-{alice.id[1:].split(':')[0]}"
    room = alice.create_room(version, preset="public_chat", room_alias_name=local)
    alias = f"#{local}:{here.name}"
    found = bob.call("GET", f"directory/room/{quoted(alias)}")
    assert found["room_id"] == room and here.name in found["servers"], found
    assert bob.call("POST", f"join/{quoted(alias)}", {})["room_id"] == room
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")


@scenario()
def invite_and_join(here, there, version):
    """An invite reaches the other server with what is told of the room, and is accepted."""
    alice, bob = pair(here, there)
    bob.sync()
    room = alice.create_room(version, name="Tea", preset="private_chat")
    alice.act("invite", room, bob)
    invite = bob.wait_in_sync("the invite", lambda answer: section(answer, "invite", room))
    told = {event["type"]: event for event in invite["invite_state"]["events"]}
    assert told["m.room.name"]["content"] == {"name": "Tea"}, told
    assert "m.room.create" in told, told
    assert set(told["m.room.name"]) <= {"type", "state_key", "sender", "content"}, told
    bob.call("POST", f"rooms/{quoted(room)}/join", {})
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")
    alice.say(room, "welcome")
    heard(bob, room, "welcome")


@scenario()
def invite_at_creation(here, there, version):
    """A room is made with a user of the other server invited."""
    alice, bob = pair(here, there)
    bob.sync()
    room = alice.create_room(version, preset="trusted_private_chat", invite=[bob.id], is_direct=True)
    bob.wait_in_sync("the invite", lambda answer: section(answer, "invite", room))
    bob.call("POST", f"rooms/{quoted(room)}/join", {})
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")
    bob.set_state(room, "m.room.name", {"name": "ours"})
    eventually("the name", lambda: alice.state(room, "m.room.name") == {"name": "ours"})


@scenario()
def invite_and_reject(here, there, version):
    """A rejected invite is gone on both sides."""
    alice, bob = pair(here, there)
    bob.sync()
    room = alice.create_room(version, preset="private_chat")
    alice.act("invite", room, bob)
    bob.wait_in_sync("the invite", lambda answer: section(answer, "invite", room))
    bob.act("leave", room)
    bob.wait_in_sync("the leave", lambda answer: section(answer, "leave", room))
    eventually("the rejection", lambda: alice.membership_of(room, bob) == "leave")
    bob.act("forget", room)


@scenario()
def invite_withdrawn(here, there, version):
    """A withdrawn invite is gone on the other side."""
    alice, bob = pair(here, there)
    bob.sync()
    room = alice.create_room(version, preset="private_chat")
    alice.act("invite", room, bob)
    bob.wait_in_sync("the invite", lambda answer: section(answer, "invite", room))
    alice.act("kick", room, bob)
    bob.wait_in_sync("the withdrawal", lambda answer: section(answer, "leave", room))


@scenario(since=7)
def knock_and_be_let_in(here, there, version):
    """A knock reaches the room, and is answered by an invite."""
    alice, bob = pair(here, there)
    bob.sync()
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room = alice.create_room(version, preset="private_chat", name="Tea", initial_state=[rules])
    bob.knock(room, here)
    knocked = bob.wait_in_sync("the knock", lambda answer: section(answer, "knock", room))
    told = {event["type"]: event for event in knocked["knock_state"]["events"]}
    assert told["m.room.name"]["content"] == {"name": "Tea"}, told
    eventually("the knock", lambda: alice.membership_of(room, bob) == "knock")
    alice.act("invite", room, bob)
    bob.wait_in_sync("the invite", lambda answer: section(answer, "invite", room))
    bob.join(room, here)
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")


@scenario(since=7)
def knock_and_withdraw(here, there, version):
    """A withdrawn knock is gone on both sides."""
    alice, bob = pair(here, there)
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room = alice.create_room(version, preset="private_chat", initial_state=[rules])
    bob.knock(room, here)
    eventually("the knock", lambda: alice.membership_of(room, bob) == "knock")
    bob.act("leave", room)
    # Synapse lets its user out and tells nobody.
    if there.kind != "synapse":
        eventually("the withdrawal", lambda: alice.membership_of(room, bob) == "leave")


@scenario(since=8)
def restricted_join(here, there, version):
    """Members of a space join its room, others do not."""
    alice, bob = pair(here, there)
    space = alice.create_room(version, preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": space}]
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "restricted", "allow": allow}}
    room = alice.create_room(version, preset="private_chat", initial_state=[rules])
    try:
        bob.join(room, here)
        raise AssertionError("joined without being in the space")
    except Refused as error:
        assert error.status == 403, error
    bob.join(space, here)
    bob.join(room, here)
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")
    member = bob.state(room, "m.room.member", bob.id)
    assert member["join_authorised_via_users_server"] == alice.id, member


@scenario()
def leave_and_come_back(here, there, version):
    """A leave is seen, and so is what happened meanwhile after coming back."""
    alice, bob = pair(here, there)
    room = shared_room(alice, bob, version)
    bob.act("leave", room)
    eventually("the leave", lambda: alice.membership_of(room, bob) == "leave")
    alice.set_state(room, "m.room.topic", {"topic": "without bob"})
    alice.say(room, "is he gone?")
    bob.join(room, here)
    assert bob.state(room, "m.room.topic")["topic"] == "without bob"
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")
    alice.say(room, "welcome back")
    heard(bob, room, "welcome back")


@scenario()
def kick_and_ban(here, there, version):
    """A kicked user may come back, a banned one may not until the ban is lifted."""
    alice, bob = pair(here, there)
    room = shared_room(alice, bob, version)
    bob.sync()
    alice.act("kick", room, bob, reason="quiet please")
    bob.wait_in_sync("the kick", lambda answer: section(answer, "leave", room))
    bob.join(room, here)
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")
    bob.sync()
    alice.act("ban", room, bob)
    bob.wait_in_sync("the ban", lambda answer: section(answer, "leave", room))
    try:
        bob.join(room, here)
        raise AssertionError("joined in spite of a ban")
    except Refused as error:
        assert error.status == 403, error
    alice.act("unban", room, bob)
    bob.join(room, here)
    eventually("the join", lambda: alice.membership_of(room, bob) == "join")


@scenario()
def remote_moderator(here, there, version):
    """Power given to a user of the other server works there."""
    alice, bob = pair(here, there)
    carol = User(here, "carol")
    room = shared_room(alice, bob, version)
    carol.join(room, here)
    levels = alice.state(room, "m.room.power_levels")
    levels["users"][bob.id] = 50
    alice.set_state(room, "m.room.power_levels", levels)
    eventually("the level", lambda: bob.state(room, "m.room.power_levels")["users"].get(bob.id) == 50)
    eventually("carol", lambda: bob.membership_of(room, carol) == "join")
    bob.set_state(room, "m.room.topic", {"topic": "by bob"})
    eventually("the topic", lambda: alice.state(room, "m.room.topic") == {"topic": "by bob"})
    bob.act("kick", room, carol)
    eventually("the kick", lambda: alice.membership_of(room, carol) == "leave")


def give_level(alice, bob, room, level):
    """Alice gives bob a power level, of which bob's server learns."""
    levels = alice.state(room, "m.room.power_levels")
    levels["users"][bob.id] = level
    alice.set_state(room, "m.room.power_levels", levels)
    eventually("the level", lambda: bob.state(room, "m.room.power_levels")["users"].get(bob.id) == level)


def reunite(alice, bob, room):
    """Waits until each has heard the other again. Servers that failed are tried again after some time only."""
    deadline = time.monotonic() + PATIENCE
    said = []
    while not any(text in bob.history(room) for text in said) or not any(
            f"{text}, too" in alice.history(room) for text in said):
        if time.monotonic() > deadline:
            raise AssertionError("the servers do not hear each other again")
        said.append(f"again {len(said)}")
        alice.say(room, said[-1])
        bob.say(room, f"{said[-1]}, too")
        time.sleep(0.5)


def agree(alice, bob, room, *members):
    """Waits until both servers have the same state."""
    keys = [("m.room.topic", ""), ("m.room.name", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")]
    keys += [("m.room.member", user.id) for user in (alice, bob, *members)]

    def agreed():
        return all(alice.state(room, *key) == bob.state(room, *key) for key in keys)
    eventually("agreement", agreed)


@scenario()
def state_during_a_partition(here, there, version):
    """Both sides change state while they do not hear each other, and agree afterwards, with nothing lost."""
    alice, bob = pair(here, there)
    room = shared_room(alice, bob, version)
    give_level(alice, bob, room, 100)
    with apart(here, there):
        alice.set_state(room, "m.room.topic", {"topic": "from here"})
        bob.set_state(room, "m.room.topic", {"topic": "from there"})
        alice.set_state(room, "m.room.name", {"name": "here"})
        bob.set_state(room, "m.room.join_rules", {"join_rule": "invite"})
        for number in range(5):
            alice.say(room, f"alone here {number}")
            bob.say(room, f"alone there {number}")
        assert bob.state(room, "m.room.name") is None, "they heard each other"
        assert alice.state(room, "m.room.join_rules")["join_rule"] == "public", "they heard each other"
    reunite(alice, bob, room)
    agree(alice, bob, room)
    assert alice.state(room, "m.room.name") == {"name": "here"}
    assert alice.state(room, "m.room.join_rules")["join_rule"] == "invite"
    expected = {f"alone {side} {number}" for side in ("here", "there") for number in range(5)}
    for user in (alice, bob):
        eventually(f"everything at {user.id}", lambda user=user: expected <= set(user.history(room)))


@scenario()
def demotion_during_a_partition(here, there, version):
    """What a moderator did who was demoted on the other side meanwhile does not count."""
    alice, bob = pair(here, there)
    room = shared_room(alice, bob, version)
    give_level(alice, bob, room, 50)
    with apart(here, there):
        levels = alice.state(room, "m.room.power_levels")
        levels["users"][bob.id] = 0
        alice.set_state(room, "m.room.power_levels", levels)
        alice.set_state(room, "m.room.topic", {"topic": "from here"})
        bob.set_state(room, "m.room.topic", {"topic": "from there"})
        bob.set_state(room, "m.room.name", {"name": "there"})
    reunite(alice, bob, room)
    agree(alice, bob, room)
    # Version 1 resolves otherwise: nothing says which side wins, only that both agree.
    if int(version) > 1:
        assert bob.state(room, "m.room.power_levels")["users"][bob.id] == 0
        assert bob.state(room, "m.room.topic")["topic"] == "from here"
        assert bob.state(room, "m.room.name") is None


@scenario()
def ban_during_a_partition(here, there, version):
    """Who was banned meanwhile is out on both sides, whatever they did."""
    alice, bob = pair(here, there)
    carol = User(there, "carol")
    room = shared_room(alice, bob, version)
    carol.join(room, here)
    eventually("carol", lambda: alice.membership_of(room, carol) == "join")
    with apart(here, there):
        alice.act("ban", room, carol)
        carol.say(room, "unaware")
        bob.say(room, "what is she saying?")
        assert bob.membership_of(room, carol) == "join", "they heard each other"
    reunite(alice, bob, room)
    agree(alice, bob, room, carol)
    assert bob.membership_of(room, carol) == "ban"
    try:
        carol.say(room, "am I?")
        raise AssertionError("spoke in spite of a ban")
    except Refused as error:
        assert error.status == 403, error


@scenario()
def history_from_before(here, there, version):
    """Who joins can page back to all that was said before, over the network."""
    alice, bob = pair(here, there)
    room = alice.create_room(version, preset="public_chat")
    said = [f"message {number}" for number in range(500)]
    for text in said:
        alice.say(room, text)
    bob.join(room, here)

    def complete():
        return bob.history(room, limit=50) == said
    eventually("the whole history", complete)


@scenario()
def redaction(here, there, version):
    """What is redacted on one side is redacted on the other."""
    alice, bob = pair(here, there)
    room = shared_room(alice, bob, version)
    event = bob.say(room, "oh no")
    heard(alice, room, "oh no")
    bob.call("PUT", f"rooms/{quoted(room)}/redact/{quoted(event)}/r{event[1:9]}", {"reason": "oops"})

    def redacted():
        return alice.call("GET", f"rooms/{quoted(room)}/event/{quoted(event)}")["content"] == {}
    eventually("the redaction", redacted)


@scenario()
def typing_and_receipts(here, there, version):
    """Typing and read receipts go both ways."""
    alice, bob = pair(here, there)
    room = shared_room(alice, bob, version)
    for one, other in [(alice, bob), (bob, alice)]:
        event = other.say(room, f"read this, {one.id}")
        heard(one, room, f"read this, {one.id}")
        other.sync()
        one.call("PUT", f"rooms/{quoted(room)}/typing/{quoted(one.id)}", {"typing": True, "timeout": 30000})

        def ephemeral(answer, kind):
            events = (section(answer, "join", room) or {}).get("ephemeral", {}).get("events", [])
            return [found["content"] for found in events if found["type"] == kind]
        other.wait_in_sync("typing", lambda answer: any(
            one.id in found["user_ids"] for found in ephemeral(answer, "m.typing")))
        one.call("PUT", f"rooms/{quoted(room)}/typing/{quoted(one.id)}", {"typing": False})
        one.call("POST", f"rooms/{quoted(room)}/receipt/m.read/{quoted(event)}", {})
        other.wait_in_sync("the receipt", lambda answer: any(
            one.id in found.get(event, {}).get("m.read", {}) for found in ephemeral(answer, "m.receipt")))


@scenario()
def keys_and_to_device(here, there, version):
    """Device keys are found, one-time keys claimed, and messages to devices delivered."""
    alice, bob = pair(here, there)
    shared_room(alice, bob, version)
    for one, other in [(alice, bob), (bob, alice)]:
        keys = {
            "user_id": one.id, "device_id": one.device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {f"curve25519:{one.device}": "curve", f"ed25519:{one.device}": "ed"},
            "signatures": {one.id: {f"ed25519:{one.device}": "signature"}},
        }
        one_time = {"signed_curve25519:AAAA": {"key": "one", "signatures": {}}}
        one.call("POST", "keys/upload", {"device_keys": keys, "one_time_keys": one_time})

        def found():
            answer = other.call("POST", "keys/query", {"device_keys": {one.id: []}})
            devices = answer.get("device_keys", {}).get(one.id, {})
            return devices.get(one.device, {}).get("keys") == keys["keys"]
        eventually("the device's keys", found)
        wanted = {one.id: {one.device: "signed_curve25519"}}
        claimed = other.call("POST", "keys/claim", {"one_time_keys": wanted})["one_time_keys"]
        assert claimed[one.id][one.device]["signed_curve25519:AAAA"]["key"] == "one", claimed
        other.sync()
        message = {"messages": {other.id: {other.device: {"body": "secret"}}}}
        one.call("PUT", f"sendToDevice/m.dummy/{one.device}", message)
        other.wait_in_sync("the message to a device", lambda answer: any(
            event["sender"] == one.id for event in answer.get("to_device", {}).get("events", [])))


@scenario()
def profiles_and_directory(here, there, version):
    """Profiles and published rooms are seen from the other server."""
    alice, bob = pair(here, there)
    alice.call("PUT", f"profile/{quoted(alice.id)}/displayname", {"displayname": "Alice A."})
    assert bob.call("GET", f"profile/{quoted(alice.id)}")["displayname"] == "Alice A."
    room = alice.create_room(version, preset="public_chat", name="Tea", visibility="public")

    def listed():
        chunk = bob.call("GET", "publicRooms", server=here.name)["chunk"]
        return any(entry["room_id"] == room and entry["name"] == "Tea" for entry in chunk)
    eventually("the room in the list", listed)


@scenario()
def spaces(here, there, version):
    """The rooms of a space of the other server are listed."""
    alice, bob = pair(here, there)
    space = alice.create_room(version, preset="public_chat", creation_content={"type": "m.space"})
    child = alice.create_room(version, preset="public_chat", name="Tea")
    secret = alice.create_room(version, preset="private_chat")
    for order, room in [("a", child), ("b", secret)]:
        alice.set_state(space, "m.space.child", {"via": [here.name], "order": order}, room)
    bob.join(space, here)
    tree = bob.call("GET", f"/_matrix/client/v1/rooms/{quoted(space)}/hierarchy")
    assert [room["room_id"] for room in tree["rooms"]] == [space, child], tree
