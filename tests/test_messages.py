"""What jobs say reaches the conductor whole, whatever else is written meanwhile."""

import subprocess
import sys

from cbir_lib.messages import CHANNEL, receive_messages

SPEAKER = """
import sys
from cbir_lib.messages import send_message
for number in range(300):
    sys.stdout.write("half a line")  # as Snakemake does, its end in a second write
    sys.stdout.flush()
    send_message(sys.argv[1], f"| message {number} " + "x" * (number % 90))
"""


def test_every_message_of_several_processes_is_heard_whole_and_in_order(tmp_path):
    path, got = tmp_path / "messages.txt", []
    path.write_text("[old] of an earlier study\n")
    with receive_messages(path, got.append):
        speakers = [
            subprocess.Popen(
                [sys.executable, "-c", SPEAKER, name],
                env={CHANNEL: str(path)},
                stdout=subprocess.DEVNULL,
            )
            for name in "abc"
        ]
        assert [speaker.wait(timeout=300) for speaker in speakers] == [0, 0, 0]
    for name in "abc":
        expected = [f"[{name}] | message {n} " + "x" * (n % 90) for n in range(300)]
        assert [line for line in got if line.startswith(f"[{name}]")] == expected
    assert len(got) == 900


def test_what_was_said_last_is_heard_though_the_block_ends_at_once(tmp_path):
    got = []
    with receive_messages(tmp_path / "messages.txt", got.append):
        (tmp_path / "messages.txt").write_text("[a] done\n[b] cut off")
    assert got == ["[a] done"]
