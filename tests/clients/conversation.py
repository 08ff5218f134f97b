#!/usr/bin/env python3
"""Two users of matrix-nio, a client library that knows nothing of Myelin, talk across a restart of the server.

They register, log in, create, invite, join, send, wait in /sync, read, type and page back. At the end each has
got every message exactly once, in one order.
"""

import asyncio
import logging
import pathlib
import sys

import nio

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import processes  # noqa: E402

PASSWORD = "correct horse battery staple"
PATIENCE = 60


class Talker:
    """A client and everything that reached it."""

    def __init__(self, server, name):
        configuration = nio.AsyncClientConfig(max_limit_exceeded=0, max_timeouts=0, store_sync_tokens=False)
        self.client = nio.AsyncClient(server.base_url, f"@{name}:{server.server_name}", config=configuration)
        self.name, self.messages, self.typing, self.receipts = name, [], [], []
        self.client.add_event_callback(self.on_message, nio.RoomMessageText)
        self.client.add_ephemeral_callback(self.on_typing, nio.TypingNoticeEvent)
        self.client.add_ephemeral_callback(self.on_receipt, nio.ReceiptEvent)

    async def on_message(self, _room, event):
        self.messages.append((event.sender, event.body, event.event_id))

    async def on_typing(self, _room, event):
        self.typing.append(event.users)

    async def on_receipt(self, _room, event):
        self.receipts += [(receipt.event_id, receipt.user_id) for receipt in event.receipts]

    async def say(self, room, text):
        """Sends a message and returns its id."""
        content = {"msgtype": "m.text", "body": text}
        answer = await self.client.room_send(room, "m.room.message", content)
        return good(answer, nio.RoomSendResponse).event_id

    async def listen_until(self, condition, what):
        """Waits in /sync until the condition holds."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not condition():
            if asyncio.get_running_loop().time() > deadline:
                raise SystemExit(f"{self.name} waited in vain for {what}")
            good(await self.client.sync(timeout=2000), nio.SyncResponse)

    def heard(self, event_id):
        """Whether this message has come."""
        return any(message[2] == event_id for message in self.messages)


def good(answer, kind):
    """The answer, which must be of this kind."""
    if not isinstance(answer, kind):
        raise SystemExit(f"expected {kind.__name__}, got {answer}")
    return answer


async def meet(server):
    """Registration, login, a room with both in it."""
    alice, bob = Talker(server, "alice"), Talker(server, "bob")
    for talker in (alice, bob):
        good(await talker.client.register(talker.name, PASSWORD, f"{talker.name}'s laptop"), nio.RegisterResponse)
    # Bob comes back by password.
    good(await bob.client.logout(), nio.LogoutResponse)
    good(await bob.client.login(PASSWORD, "bob's phone"), nio.LoginResponse)
    answer = await alice.client.room_create(name="Tea", topic="Milk first?", invite=[bob.client.user_id])
    room = good(answer, nio.RoomCreateResponse).room_id
    await bob.listen_until(lambda: room in bob.client.invited_rooms, "the invite")
    good(await bob.client.join(room), nio.JoinResponse)
    await bob.listen_until(lambda: room in bob.client.rooms, "the room")
    await alice.listen_until(lambda: len(alice.client.rooms[room].users) == 2 if room in alice.client.rooms else False,
                             "bob's join")
    if bob.client.rooms[room].name != "Tea" or bob.client.rooms[room].topic != "Milk first?":
        raise SystemExit("the name or the topic of the room did not reach bob")
    return alice, bob, room


async def converse(alice, bob, room, said, count):
    """Alternating messages, each waited for by the other."""
    for number in range(count):
        speaker, listener = (alice, bob) if number % 2 == 0 else (bob, alice)
        waiting = asyncio.create_task(listener.client.sync(timeout=30_000))
        event = await speaker.say(room, f"message {len(said)}")
        said.append(event)
        good(await waiting, nio.SyncResponse)
        await listener.listen_until(lambda event=event, listener=listener: listener.heard(event), "a message")


async def read_and_type(alice, bob, room, event):
    """A receipt and a typing notice of bob, seen by alice."""
    good(await bob.client.room_read_markers(room, event, event), nio.RoomReadMarkersResponse)
    read = (event, bob.client.user_id)
    await alice.listen_until(lambda: read in alice.receipts, "the receipt")
    good(await bob.client.room_typing(room, True, 20_000), nio.RoomTypingResponse)
    await alice.listen_until(lambda: [bob.client.user_id] in alice.typing, "bob typing")
    good(await bob.client.room_typing(room, False), nio.RoomTypingResponse)
    await alice.listen_until(lambda: alice.typing[-1] == [], "the end of bob's typing")


async def page_back(talker, room):
    """All messages of the room, oldest first, in small pages."""
    found, token = [], talker.client.next_batch
    while True:
        page = good(await talker.client.room_messages(room, token, limit=7), nio.RoomMessagesResponse)
        found += [event.event_id for event in page.chunk if isinstance(event, nio.RoomMessageText)]
        if not page.chunk or page.end is None:
            return found[::-1]
        token = page.end


async def conversation(server):
    """The whole play."""
    alice, bob, room = await meet(server)
    said = []
    await converse(alice, bob, room, said, 20)
    await read_and_type(alice, bob, room, said[-1])
    before = await alice.say(room, "before the restart")
    said.append(before)
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await bob.listen_until(lambda: bob.heard(before), "what was said before the restart")
    await alice.listen_until(lambda: alice.heard(before), "her own words")
    await converse(alice, bob, room, said, 20)
    for talker in (alice, bob):
        await talker.listen_until(lambda talker=talker: talker.heard(said[-1]), "the last message")
        if [message[2] for message in talker.messages] != said:
            raise SystemExit(f"{talker.name} did not get each message once and in order by /sync")
        if await page_back(talker, room) != said:
            raise SystemExit(f"{talker.name} did not get each message once and in order by /messages")
        await talker.client.close()
    print(f"{len(said)} messages, each once, in one order, for both")


def main():
    """Starts a server for the play, and stops it."""
    logging.getLogger("nio").setLevel(logging.ERROR)
    server = processes.Myelin()
    server.start()
    try:
        asyncio.run(conversation(server))
    finally:
        if server.process.poll() is None:
            server.stop()
    server.remove()


if __name__ == "__main__":
    main()
