"""Fails: the caller gets the exception as a JSON error object."""


def main(order: int) -> None:
    print("looking for the order")  # goes to the job's log
    raise LookupError(f"there is no order {order}")
