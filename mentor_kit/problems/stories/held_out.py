"""The stories that are never trained on: chains of four calls, and tool combinations held out on
purpose.

The chains use only ordered pairs of tools (a result of one handed to the other) that are trained,
so that they are harder by their length alone; every held-out combination has at least one pair that
is not.
"""

from __future__ import annotations

from mentor_kit.problems.stories.structures import Structure, decimal, keep, square, whole

CHAINS = (
    Structure("chain_boxes_cost",
              {"a": whole(5, 40), "b": whole(5, 40), "c": whole(5, 40), "e": whole(2, 10),
                                   "f": whole(2, 12)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c"]),
               ("Divide by the size.", "divide", 0, "e"),
               ("Go up to whole units.", "ceil", 1), ("Find the cost.", "multiply", 2, "f")), (
        ("{n} finds {a} {o} on Monday, {b} on Tuesday and {c} on Friday. A box holds {e} of them "
         "and costs {f} coins. How much must {n} pay for boxes for all {o}?"),
        ("There are {a}, {b} and {c} {o} in three bags. {n} must carry them and takes {e} each "
         "time. Each time, {n} must walk {f} metres. How many metres is that?"),
        ("{n} has {a} {o}, {m} has {b} and a friend has {c}. A car takes {e} {o} and costs {f} "
         "coins. How much do the cars cost?"),
    )),
    Structure("chain_full_boxes",
              {"a": whole(2, 9), "b": whole(3, 12), "c": whole(3, 40), "e": whole(2, 10)},
              (("Multiply groups by size.", "multiply", "a", "b"), ("Add the rest.", "add", 0, "c"),
               ("Divide by the size.", "divide", 1, "e"), ("Only full units count.", "floor", 2)), (
        ("{n} has {a} bags of {b} {o} and finds {c} more {o}. {n} packs all of them in boxes of "
         "{e}. How many full boxes does {n} get?"),
        ("{n} makes {b} coins on each of {a} days and {m} gives {c} more coins to {n}. A ticket "
         "costs {e} coins. How many tickets can {n} buy?"),
        ("There are {a} boxes with {b} eggs in each box, and {c} more eggs on the floor. For one "
         "cake {n} needs {e} eggs. How many whole cakes can {n} make?"),
    )),
    Structure("chain_growth_share",
              {"a": whole(2, 12), "b": whole(2, 5), "c": keep(2, 4), "e": whole(3, 60),
                                     "f": whole(2, 9)},
              (("Growth over the whole time.", "power", "b", "c"),
               ("Multiply by the start.", "multiply", "a", 0),
               ("Take away what is gone.", "subtract", 1, "e"),
               ("Divide into equal parts.", "divide", 2, "f")), (
        ("{n} starts with {a} {o} and has {b} times as many after each day. After {c} days {n} "
         "lost {e}. Then {f} friends share the rest equally. How many {o} does each friend get?"),
        ("There are {a} cells in a cup. Each hour every cell splits into {b}. After {c} hours {n} "
         "takes {e} cells and puts the rest in {f} cups, equally many in each. How many cells are "
         "in one cup?"),
        ("{n} starts a game with {a} coins. In each of {c} rounds the coins become {b} times as "
         "many. Then {n} must pay {e} coins and shares the rest equally among {f} friends. How "
         "many coins does each friend get?"),
    )),
    Structure("chain_fence_change",
              {"a": square(2, 12), "k": keep(4, 4), "c": whole(2, 9), "e": whole(100, 500)},
              (("Side of the square.", "sqrt", "a"), ("All sides together.", "multiply", 0, "k"),
               ("Find the cost.", "multiply", 1, "c"), ("Take the cost away.", "subtract", "e", 2)),
              (
        ("A square garden has an area of {a} square metres. A fence around all {k} sides costs {c} "
         "coins for each metre. {n} has {e} coins and buys the fence. How many coins are left?"),
        ("A square room has an area of {a} square metres. {n} has {e} {o} and needs {c} of them "
         "for each metre of the {k} walls. How many {o} are left?"),
        ("{n} must walk {e} metres. {n} runs {c} times along the {k} sides of a square garden with "
         "an area of {a} square metres. How many metres are left?"),
    )),
    Structure("chain_pay_off_target",
              {"a": whole(3, 30), "b": whole(3, 30), "c": whole(3, 30), "e": whole(10, 99),
                                       "f": whole(2, 9)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c"]),
               ("Subtract in this order.", "subtract", 0, "e"),
               ("Drop the sign.", "abs_value", 1), ("Multiply by how many.", "multiply", 2, "f")), (
        ("{n} finds {a} {o} on Monday, {b} on Tuesday and {c} on Friday. {m} has {e} {o}. For each "
         "of the difference they pay {f} coins. How much do they pay?"),
        ("There are {a}, {b} and {c} {o} in three boxes and {e} in a bag. {n} gets {f} coins for "
         "each of the difference of boxes and bag. How many coins is that?"),
        ("{n} runs {a}, {b} and {c} kilometres on three days, and {m} runs {e} kilometres. {n} "
         "must pay {f} coins for each of the difference in kilometres. How much is that?"),
    )),
    Structure("chain_two_kinds_left_over",
              {"a": whole(2, 9), "b": whole(3, 12), "c": whole(2, 9), "e": whole(3, 12),
                                            "f": whole(3, 12)},
              (("Count the first kind.", "multiply", "a", "b"),
               ("Count the other kind.", "multiply", "c", "e"),
               ("Add both amounts.", "add", 0, 1), ("Find what is left over.", "modulo", 2, "f")), (
        ("{n} has {a} bags of {b} red {o} and {c} bags of {e} blue {o}. {n} packs all of them in "
         "boxes of {f}. How many {o} are left over?"),
        ("There are {a} boxes with {b} {o} in each box and {c} boxes with {e} {o} in each box. {n} "
         "puts them in rows of {f}. How many {o} are left over?"),
        ("{n} makes {b} {o} on each of {a} days and {m} makes {e} {o} on each of {c} days. They "
         "share them equally among {f} friends. How many {o} are left over?"),
    )),
    Structure("chain_rounded_share",
              {"a": whole(2, 9), "b": whole(3, 12), "c": whole(3, 40), "e": whole(4, 40),
                                      "d": keep(1, 2)},
              (("Multiply groups by size.", "multiply", "a", "b"), ("Add the rest.", "add", 0, "c"),
               ("Divide into equal parts.", "divide", 1, "e"),
               ("Round the number.", "round_number", 2, "d")), (
        ("{n} buys {a} {o} for {b} coins each and a ticket for {c} coins. If {e} friends pay in "
         "equal parts, how much does each pay, rounded to {d} decimal {places}?"),
        ("A rope has {a} parts of {b} metres each and one part of {c} metres. {n} cuts it into {e} "
         "equal parts. How long is each part, rounded to {d} decimal {places}?"),
        ("{n} runs {b} kilometres on each of {a} days and {c} kilometres on Friday, in {e} equal "
         "parts. How long is each part, rounded to {d} decimal {places}?"),
    )),
)

UNSEEN = (
    Structure("square_full_units", {"a": square(21, 95, places=1)},
              (("Side of the square.", "sqrt", "a"), ("Only full units count.", "floor", 0)), (
        "A square garden has an area of {a} square metres. How many full metres long is one side?",
        "A square room has an area of {a} square metres. How many full metres is one wall?",
        "{n} runs along one side of a square with an area of {a} square metres. How many full "
        "metres is that?",
    )),
    Structure("three_parts_left_over",
              {"a": whole(3, 40), "b": whole(3, 40), "c": whole(3, 40), "e": whole(3, 12)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c"]),
               ("Find what is left over.", "modulo", 0, "e")), (
        ("{n} finds {a} {o} on Monday, {b} on Tuesday and {c} on Friday and packs them in bags of "
         "{e}. How many {o} are left over?"),
        "There are {a}, {b} and {c} {o} in three boxes. {n} puts them in rows of {e}. How many {o} "
        "are left over?",
        ("{n} has {a} {o}, {m} has {b} and a friend has {c}. They share them equally among {e} "
         "friends. How many {o} are left over?"),
    )),
    Structure("share_the_difference", {"a": whole(2, 40), "b": whole(2, 40), "c": whole(2, 9)},
              (("Subtract in this order.", "subtract", "a", "b"),
               ("Drop the sign.", "abs_value", 0),
               ("Divide into equal parts.", "divide", 1, "c")), (
        ("One box holds {a} {o} and another holds {b}. {n} shares the difference equally among {c} "
         "friends. How many {o} does each friend get?"),
        "{n} has {a} coins and {m} has {b}. If {c} friends pay the difference in equal parts, how "
        "much does each pay?",
        ("One rope is {a} metres long and another is {b} metres long. {n} cuts the difference into "
         "{c} equal parts. How long is each part?"),
    )),
    Structure("growth_left_over", {"b": whole(2, 9), "c": keep(2, 4), "e": whole(3, 12)},
              (("Growth over the whole time.", "power", "b", "c"),
               ("Find what is left over.", "modulo", 0, "e")), (
        ("There is one cell in a cup. Each hour every cell splits into {b}. After {c} hours {n} "
         "puts the cells in rows of {e}. How many cells are left over?"),
        "A lock has {c} wheels with {b} letters each. {n} puts all codes in rows of {e}. How many "
        "codes are left over?",
        ("{n} starts with one cell. Each day every cell splits into {b}. After {c} days {n} packs "
         "them in bags of {e}. How many cells are left over?"),
    )),
    Structure("groups_to_square", {"a": whole(2, 20), "b": whole(3, 30)},
              (("Multiply groups by size.", "multiply", "a", "b"),
               ("Side of the square.", "sqrt", 0)), (
        ("{n} has {a} bags of {b} {o} and puts all of them in a square, with equally many in each "
         "row. How many {o} are in one row?"),
        ("There are {a} boxes with {b} {o} in each box. {n} makes a square with equally many in "
         "each row. How many {o} are in one row?"),
        "{n} makes {b} {o} each day. After {a} days {n} puts them in a square. How many {o} are in "
        "one row?",
    )),
    Structure("more_to_square", {"a": whole(4, 90), "b": whole(3, 60)},
              (("Add both amounts.", "add", "a", "b"), ("Side of the square.", "sqrt", 0)), (
        ("{n} has {a} red and {b} blue {o} and puts them in a square, with equally many in each "
         "row. How many {o} are in one row?"),
        "{n} has {a} {o}, gets {b} more and makes a square of all of them. How many {o} are in one "
        "row?",
        ("One floor has {a} square metres and another has {b}. A square garden has as many as they "
         "have in all. What is the length of one side?"),
    )),
    Structure("rounded_groups", {"a": whole(2, 12), "b": decimal(2, 20, 2), "d": keep(1, 1)},
              (("Multiply groups by size.", "multiply", "a", "b"),
               ("Round the number.", "round_number", 0, "d")), (
        "{n} has {a} stones of {b} kilos each. What is the weight of all of them, rounded to {d} "
        "decimal {places}?",
        "There are {a} walls, and each is {b} metres long. How long are they in all, rounded to "
        "{d} decimal {places}?",
        "{n} runs {b} kilometres each day. How many kilometres is that in {a} days, rounded to {d} "
        "decimal {places}?",
    )),
    Structure("whole_units_left", {"a": decimal(5, 30, 1), "b": whole(2, 20)},
              (("Go up to whole units.", "ceil", "a"),
               ("Take away what is there.", "subtract", 0, "b")), (
        "{n} needs {a} cans of paint and has {b} full cans. A shop sells only whole cans. How many "
        "cans must {n} buy?",
        ("{n} needs {a} metres of rope and has {b} metres. The shop sells only whole metres. "
        "How many metres must {n} buy?"),
        ("A wall needs {a} cans of paint. {n} has {b} full cans, and the shop sells only whole "
         "cans. How many cans must {n} buy?"),
    )),
    Structure("full_boxes_sold", {"a": whole(11, 99), "b": whole(2, 10), "c": whole(2, 12)},
              (("Divide by the size.", "divide", "a", "b"), ("Only full units count.", "floor", 0),
               ("Multiply by how many.", "multiply", 1, "c")), (
        ("{n} has {a} {o} and packs them in boxes of {b}. {n} gets {c} coins for each full box. "
        "How many coins does {n} get?"),
        ("For one cake {n} needs {b} eggs. {n} has {a} eggs and sells each whole cake for {c} "
         "coins. How many coins does {n} get?"),
        ("{n} has {a} coins. A ticket costs {b} coins, and {n} gets {c} {o} with each ticket. "
        "How many {o} can {n} get?"),
    )),
)
