"""What is wrong with Linux's drivers (6.1), in words; each has its test, which passes with refimpl in Linux's place.

The names are those of `fault_of` marks, and of `never` where a test would now and then meet a fault that another shows
each time.
"""

#: test_stall.py shows it each time.
STALL = "the backend before 6.3 leaves a channel masked after an event that finds nothing to send"
POLL_UNANSWERED = "the backend never answers a POLL of an id it does not know"
END_LOST = "the backend does not tell the end of a stream that it reads together with the last bytes"
RESET_UNTOLD = "the backend does not tell a reset to a frontend that reads: in_error stays 0"
OUTPUT_DROPPED = "the backend drops at RELEASE what it has not sent yet, and the frontend does not wait"
WAKE_LOST = (
    "the frontend's poll puts itself into the queue after it has sent POLL: a response that comes before is not seen "
    "until poll's time is over"
)
WRONG_QUEUE = (
    "the frontend's poll waits in the wrong queue while an ACCEPT is in flight: its response wakes another one"
)
