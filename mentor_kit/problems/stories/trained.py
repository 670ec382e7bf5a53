"""The stories that are trained on: their programs, three or more phrasings each, two held-out
phrasings each."""

from __future__ import annotations

from mentor_kit.problems.stories.structures import (
    Structure,
    below,
    decimal,
    keep,
    square,
    times,
    whole,
)

ONE_CALL = (
    Structure("more", {"a": whole(4, 60), "b": whole(3, 40)},
              (("Add both amounts.", "add", "a", "b"),), (
        "{n} has {a} {o} and gets {b} more. How many {o} does {n} have now?",
        "There are {a} {o} in a box. {n} puts in {b} more. How many {o} are in the box now?",
        "{n} has {a} {o} and {m} has {b} {o}. How many {o} do they have in all?",
    ), (
        "{m} gives {b} {o} to {n}. Before that, {n} had {a} {o}. How many {o} does {n} have now?",
        "How many {o} are there in all if {n} has {a} and {m} has {b}?",
    )),
    Structure("fewer", {"a": whole(20, 90), "b": whole(3, 60)},
              (("Take away what is gone.", "subtract", "a", "b"),), (
        "{n} has {a} {o} and gives {b} of them to {m}. How many {o} does {n} have left?",
        "There are {a} {o} in a box. {n} takes {b} of them. How many {o} are left in the box?",
        "Before the trip, {n} had {a} {o}. Then {n} lost {b}. How many {o} are left?",
    ), (
        "{m} takes {b} of the {a} {o} that {n} has. How many {o} are left?",
        "How many {o} does {n} have left if {n} had {a} {o} and lost {b} of them?",
    )),
    Structure("groups", {"a": whole(2, 12), "b": whole(3, 20)},
              (("Multiply groups by size.", "multiply", "a", "b"),), (
        "There are {a} boxes with {b} {o} in each box. How many {o} are there in all?",
        "{n} has {a} bags of {b} {o}. How many {o} does {n} have in all?",
        "{n} makes {b} {o} each day. How many {o} does {n} make in {a} days?",
    ), (
        "A box holds {b} {o}. How many {o} are in {a} boxes?",
        "How many {o} does {n} have in all if there are {a} bags and {b} {o} are in each of them?",
    )),
    Structure("share", {"b": whole(2, 12), "a": times("b", 2, 12)},
              (("Divide into equal parts.", "divide", "a", "b"),), (
        "{n} shares {a} {o} equally among {b} friends. How many {o} does each friend get?",
        "How many {o} are in one box if {n} packs {a} {o} in {b} boxes, equally many in each box?",
        "If {b} friends share {a} {o} equally, how many {o} does each friend get?",
    ), (
        "How many {o} does each of {b} friends get if they share {a} {o} equally?",
        "There are {a} {o} in {b} bags, equally many in each bag. How many {o} are in one bag?",
    )),
    Structure("three_parts", {"a": whole(3, 40), "b": whole(3, 40), "c": whole(3, 40)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c"]),), (
        "{n} finds {a} {o} on Monday, {b} on Tuesday and {c} on Friday. How many {o} is that in "
        "all?",
        "Three boxes hold {a}, {b} and {c} {o}. How many {o} are there in all?",
        "{n} has {a} {o}, {m} has {b} and a friend has {c}. How many {o} do they have in all?",
    ), (
        "How many {o} are there in all if three bags hold {a}, {b} and {c} {o}?",
        "On Monday {n} makes {a} {o}, on Tuesday {b} and on Friday {c}. How many {o} is that in "
        "all?",
    )),
    Structure("four_parts",
              {"a": whole(3, 30), "b": whole(3, 30), "c": whole(3, 30), "e": whole(3, 30)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c", "e"]),), (
        "There are {a}, {b}, {c} and {e} {o} in four boxes. How many {o} are there in all?",
        "{n} runs {a}, {b}, {c} and {e} kilometres on four days. How many kilometres is that in "
        "all?",
        "Four friends have {a}, {b}, {c} and {e} {o}. How many {o} do they have in all?",
    ), (
        "How many {o} do four bags hold in all if there are {a}, {b}, {c} and {e} in them?",
        "{n} makes {a}, {b}, {c} and {e} {o} on four days. How many {o} is that in all?",
    )),
    Structure("full_units", {"a": decimal(2, 30, 1)}, (("Only full units count.", "floor", "a"),), (
        "A rope is {a} metres long. How many full metres is that?",
        "{n} has water for {a} bottles. How many full bottles is that?",
        "{n} runs for {a} hours. How many full hours is that?",
    ), (
        "How many full metres are there in a rope of {a} metres?",
        "A trip takes {a} hours. How many full hours are in it?",
    )),
    Structure("whole_units", {"a": decimal(2, 30, 1)}, (("Go up to whole units.", "ceil", "a"),), (
        "{n} needs {a} cans of paint. A shop sells only whole cans. How many cans must {n} buy?",
        "{n} needs {a} metres of rope, and the shop sells only whole metres. How many metres must "
        "{n} buy?",
        "A trip takes {a} hours. {n} must pay for each hour begun. For how many hours must {n} "
        "pay?",
    ), (
        "How many whole bottles of water must {n} buy if {n} needs {a} bottles?",
        "A shop sells only whole cans of paint, and a wall needs {a} cans. How many must {n} buy?",
    )),
    Structure("rounded", {"a": decimal(2, 30, 3), "d": keep(1, 2)},
              (("Round the number.", "round_number", "a", "d"),), (
        "A stone weighs {a} kilos. What is its weight, rounded to {d} decimal {places}?",
        "{n} runs {a} kilometres. How many kilometres is that, rounded to {d} decimal {places}?",
        "A rope is {a} metres long. What is its length, rounded to {d} decimal {places}?",
    ), (
        "Rounded to {d} decimal {places}, how many metres is a rope of {a} metres?",
        "A cup weighs {a} kilos. Rounded to {d} decimal {places}, what is its weight?",
    )),
    Structure("rounded_whole", {"a": decimal(2, 60, 2)},
              (("Round to a whole number.", "round_number", "a"),), (
        "A stone weighs {a} kilos. What is its weight, rounded to a whole number?",
        "{n} runs {a} kilometres. How many kilometres is that, rounded to a whole number?",
        "Rounded to a whole number, what is the length of a wall of {a} metres?",
    ), (
        "Rounded to a whole number, what is the weight of a stone of {a} kilos?",
        "A trip is {a} kilometres long. Rounded to a whole number, how long is it?",
    )),
    Structure("codes", {"a": whole(2, 9), "b": keep(2, 4)},
              (("Choices multiply each time.", "power", "a", "b"),), (
        "A code has {b} places, and each place shows one of {a} colours. How many codes are there?",
        "A lock has {b} wheels with {a} letters each. How many codes can {n} set?",
        "{n} has {b} lamps. Each lamp shows one of {a} colours. In how many ways can {n} set the "
        "lamps?",
    ), (
        "How many codes can {n} set if a lock has {b} wheels with {a} letters each?",
        "Each of {b} lamps shows one of {a} colours. In how many ways can {n} set them?",
    )),
    Structure("square_side", {"a": square(2, 30)}, (("Side of a square.", "sqrt", "a"),), (
        "The square garden of {n} has an area of {a} square metres. What is the length of one "
        "side?",
        "{n} puts {a} {o} in a square, with equally many in each row. How many {o} are in one row?",
        "The floor in the square room of {n} has an area of {a} square metres. How long is one "
        "wall?",
    ), (
        "What is the length of one side if the square room of {n} has an area of {a} square "
        "metres?",
        "In a square of {a} {o} there are equally many in each row. How many {o} are in one row?",
    )),
    Structure("below_zero", {"a": below(2, 40)}, (("Drop the sign.", "abs_value", "a"),), (
        "It is {a} degrees in the garden of {n}. How many degrees below zero is that?",
        "The balance of {n} at the bank is {a} coins. How many coins must {n} pay back?",
        "{n} finds a fish at a height of {a} metres. How many metres below the sea is it?",
    ), (
        "How many degrees below zero is it if it is {a} degrees in the room of {n}?",
        "The balance of {n} is {a} coins. How many coins below zero is that?",
    )),
    Structure("left_over", {"a": whole(13, 90), "b": whole(3, 12)},
              (("Find what is left over.", "modulo", "a", "b"),), (
        "{n} has {a} {o} and packs them in bags of {b}. How many {o} are left over?",
        "{n} puts {a} {o} in rows of {b}. How many {o} are left over?",
        "{n} shares {a} {o} equally among {b} friends. How many {o} are left over?",
    ), (
        "How many {o} are left over if {n} packs {a} {o} in boxes of {b}?",
        "There are {a} {o}. If {b} friends share them equally, how many {o} are left over?",
    )),
)

TWO_CALLS = (
    Structure("difference", {"a": whole(2, 40), "b": whole(2, 40)},
              (("Subtract in this order.", "subtract", "a", "b"),
               ("Drop the sign.", "abs_value", 0)), (
        "It is {a} degrees on Monday and {b} degrees on Tuesday. What is the difference in "
        "degrees?",
        "{n} has {a} {o} and {m} has {b}. What is the difference?",
        "One tower is {a} metres high and another is {b} metres high. What is the difference in "
        "height?",
    ), (
        "What is the difference if one box holds {a} {o} and another holds {b}?",
        "On Monday it is {a} degrees, and on Friday it is {b} degrees. What is the difference in "
        "degrees?",
    )),
    Structure("from_below_zero", {"a": below(2, 20), "b": whole(2, 30)},
              (("Subtract in this order.", "subtract", "a", "b"),
               ("Drop the sign.", "abs_value", 0)), (
        "It is {a} degrees in the morning and {b} degrees in the evening. What is the difference "
        "in degrees?",
        "A fish is at a height of {a} metres and a bird at {b} metres. What is the difference in "
        "height?",
        "The balance of {n} is {a} coins and the balance of {m} is {b} coins. What is the "
        "difference in coins?",
    ), (
        "What is the difference in degrees if it is {a} degrees on Monday and {b} degrees on "
        "Friday?",
        "One balance is {a} coins and another is {b} coins. What is the difference?",
    )),
    Structure("boxes_needed", {"a": whole(11, 99), "b": whole(2, 10)},
              (("Divide by the size.", "divide", "a", "b"), ("Go up to whole units.", "ceil", 0)), (
        "{n} has {a} {o}. A box holds {b} of them. How many boxes does {n} need for all {o}?",
        "On a trip there are {a} friends. A car takes {b} of them. How many cars do they need?",
        "{n} must carry {a} {o} and takes {b} each time. How many times must {n} walk?",
    ), (
        "How many boxes does {n} need for all of the {a} {o} if each box holds {b}?",
        "A bag holds {b} {o}. For {a} {o}, how many bags does {n} need?",
    )),
    Structure("full_boxes", {"a": whole(11, 99), "b": whole(2, 10)},
              (("Divide by the size.", "divide", "a", "b"), ("Only full units count.", "floor", 0)),
              (
        "{n} has {a} {o} and packs them in boxes of {b}. How many full boxes does {n} get?",
        "How many whole cakes can {n} make with {a} eggs if {n} needs {b} eggs for one cake?",
        "{n} has {a} coins. A ticket costs {b} coins. How many tickets can {n} buy?",
    ), (
        "How many full bags does {n} get if {n} packs {a} {o} in bags of {b}?",
        "How many tickets can {n} buy with {a} coins if one ticket costs {b} coins?",
    )),
    Structure("rounded_share", {"a": whole(5, 99), "b": whole(4, 40), "d": keep(1, 2)},
              (("Divide into equal parts.", "divide", "a", "b"),
               ("Round the number.", "round_number", 0, "d")), (
        "{n} cuts a rope of {a} metres into {b} equal parts. How long is each part, rounded to {d} "
        "decimal {places}?",
        "{n} runs {a} kilometres in {b} equal parts. How long is each part, rounded to {d} decimal "
        "{places}?",
        "If {b} friends pay {a} coins in equal parts, how much does each pay, rounded to {d} "
        "decimal {places}?",
    ), (
        "How long is each of {b} equal parts of a {a} metres long rope, rounded to {d} decimal "
        "{places}?",
        "Rounded to {d} decimal {places}, how much does each of {b} friends pay if they share {a} "
        "coins equally?",
    )),
    Structure("growth", {"a": whole(2, 12), "b": whole(2, 5), "c": keep(2, 4)},
              (("Growth over the whole time.", "power", "b", "c"),
               ("Multiply by the start.", "multiply", "a", 0)), (
        "{n} starts with {a} {o} and has {b} times as many after each day. How many {o} are there "
        "after {c} days?",
        "There are {a} cells in a cup. Each hour every cell splits into {b}. How many cells are "
        "there after {c} hours?",
        ("{n} starts a game with {a} coins. In each of {c} rounds the coins become {b} times as "
         "many. How many coins does {n} have then?"),
    ), (
        "Each day every cell splits into {b}. {n} starts with {a} cells. How many cells are there "
        "after {c} days?",
        ("How many coins does {n} have after {c} rounds if {n} starts with {a} coins and has {b} "
         "times as many after each of them?"),
    )),
    Structure("bags_and_more", {"a": whole(2, 12), "b": whole(3, 15), "c": whole(3, 40)},
              (("Multiply groups by size.", "multiply", "a", "b"),
               ("Add the rest.", "add", 0, "c")), (
        "{n} has {a} bags of {b} {o} and finds {c} more {o}. How many {o} does {n} have now?",
        "There are {a} boxes with {b} {o} in each box, and {c} more on the floor. How many {o} are "
        "there in all?",
        "{n} buys {a} {o} for {b} coins each and a ticket for {c} coins. How much must {n} pay in "
        "all?",
    ), (
        "How many {o} are there in all if there are {c} on the floor and {b} in each of {a} bags?",
        "{m} gives {c} {o} to {n}. Before that, {n} had {a} boxes of {b} {o}. How many {o} does "
        "{n} have now?",
    )),
    Structure("change", {"a": whole(30, 99), "b": whole(2, 9), "c": whole(2, 12)},
              (("Find the cost.", "multiply", "b", "c"),
               ("Take the cost away.", "subtract", "a", 0)), (
        "{n} has {a} coins and buys {b} {o} for {c} coins each. How many coins are left?",
        "There are {a} {o} in a box. Then {b} friends take {c} {o} each. How many {o} are left in "
        "the box?",
        "{n} had {a} metres of rope and cuts {b} parts of {c} metres each from it. How many metres "
        "are left?",
    ), (
        "How many coins are left if {n} had {a} coins and buys {b} tickets for {c} coins each?",
        "Each of {b} friends takes {c} of the {a} {o} that {n} has. How many {o} are left?",
    )),
    Structure("fence", {"a": square(2, 25), "k": keep(4, 4)},
              (("Side of the square.", "sqrt", "a"), ("All sides together.", "multiply", 0, "k")), (
        "The square garden of {n} has an area of {a} square metres. How long is a fence around all "
        "{k} sides?",
        "The square room of {n} has an area of {a} square metres. How long are its {k} walls in "
        "all?",
        "{n} runs along the {k} sides of a square garden with an area of {a} square metres. How "
        "many metres is that?",
    ), (
        "How long is a fence along all {k} sides of a square with an area of {a} square metres?",
        "The area of a square room is {a} square metres. How many metres long are the {k} sides in "
        "all?",
    )),
    Structure("rope_and_wall", {"a": square(4, 30), "b": whole(2, 20)},
              (("Side of the square.", "sqrt", "a"),
               ("Take away what is gone.", "subtract", 0, "b")), (
        ("The square room of {n} has an area of {a} square metres. A rope is as long as one wall, "
         "and {n} cuts {b} metres from it. How many metres are left?"),
        ("{n} puts {a} {o} in a square, with equally many in each row. {m} takes {b} of them from "
         "one row. How many {o} are left in that row?"),
        ("A fence is as long as one side of a square garden with an area of {a} square metres. {n} "
         "takes {b} metres of it. How many metres of the fence are left?"),
    ), (
        ("How many metres are left if {n} cuts {b} metres from a rope as long as one wall of a "
         "square room with an area of {a} square metres?"),
        ("In a square of {a} {o} there are equally many in each row. How many {o} are left in one "
         "row if {n} takes {b} from it?"),
    )),
    Structure("average", {"k": keep(3, 3), "a": whole(3, 30), "b": whole(3, 30), "c": whole(3, 30)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c"]),
               ("Divide by how many.", "divide", 0, "k")), (
        "{n} makes {a}, {b} and {c} {o} on {k} days. How many {o} is that on average?",
        "There are {a}, {b} and {c} {o} in {k} boxes. What is the average?",
        "Now {k} friends have {a}, {b} and {c} {o} and share them equally. How many {o} does each "
        "friend get?",
    ), (
        "What is the average if {k} bags hold {a}, {b} and {c} {o}?",
        "On {k} days {n} runs {a}, {b} and {c} kilometres. How many kilometres is that on average?",
    )),
    Structure("two_kinds_left_over", {"a": whole(5, 50), "b": whole(5, 50), "c": whole(3, 12)},
              (("Add both amounts.", "add", "a", "b"),
               ("Find what is left over.", "modulo", 0, "c")), (
        "{n} has {a} red and {b} blue {o} and packs them in bags of {c}. How many {o} are left "
        "over?",
        "{n} finds {a} {o} on Monday and {b} on Tuesday and puts them in rows of {c}. How many {o} "
        "are left over?",
        "{n} has {a} {o} and {m} has {b}. They share them equally among {c} friends. How many {o} "
        "are left over?",
    ), (
        "How many {o} are left over if {n} packs {a} blue and {b} red {o} in boxes of {c}?",
        "There are {a} {o} in one box and {b} in another. {n} puts them in rows of {c}. How many "
        "{o} are left over?",
    )),
    Structure("share_the_rest", {"a": whole(20, 90), "b": whole(3, 30), "c": whole(2, 9)},
              (("Take away what is gone.", "subtract", "a", "b"),
               ("Divide into equal parts.", "divide", 0, "c")), (
        ("{n} has {a} {o}, takes {b} of them back and shares the rest equally among {c} friends. "
        "How many {o} does each friend get?"),
        ("There are {a} {o} in a box. {n} takes {b}. Then {c} friends share the rest equally. "
        "How many {o} does each friend get?"),
        ("{n} had {a} {o} and lost {b}. {n} packs the rest in {c} bags, equally many in each. "
        "How many {o} are in one bag?"),
    ), (
        "If {n} had {a} {o}, lost {b} and shares the rest equally among {c} friends, how many {o} "
        "does each get?",
        "{n} takes {b} of the {a} {o} and puts the rest in {c} boxes, equally many in each. How "
        "many are in one box?",
    )),
    Structure("on_and_off", {"a": whole(5, 60), "b": whole(3, 30), "c": whole(3, 40)},
              (("Add what comes.", "add", "a", "b"),
               ("Take away what is gone.", "subtract", 0, "c")), (
        "{n} has {a} {o}, gets {b} more and gives {c} of them to {m}. How many {o} does {n} have "
        "left?",
        "There are {a} {o} in a box. {n} puts in {b} more and {m} takes {c}. How many {o} are in "
        "the box now?",
        "On Monday {n} finds {a} {o}, on Tuesday {b}. On Friday {n} lost {c}. How many {o} are "
        "left?",
    ), (
        "{m} gives {b} {o} to {n}. Before that, {n} had {a}. Then {n} lost {c}. How many {o} are "
        "left?",
        "How many {o} are left in a box with {a} {o} if {n} puts in {b} more and then takes {c}?",
    )),
    Structure("unit_price", {"b": whole(2, 9), "a": times("b", 2, 12), "c": whole(2, 12)},
              (("Find the cost of one.", "divide", "a", "b"),
               ("Multiply by how many.", "multiply", 0, "c")), (
        "How much must {n} pay for {c} tickets if {b} tickets cost {a} coins?",
        "{n} makes {a} {o} in {b} days, equally many each day. How many {o} does {n} make in {c} "
        "days?",
        "There are {a} {o} in {b} boxes, equally many in each box. How many {o} are in {c} boxes?",
    ), (
        "{n} buys {b} {o} for {a} coins. How many coins do {c} {o} cost?",
        "In {b} hours {n} runs {a} kilometres. How many kilometres is that in {c} hours?",
    )),
)

THREE_CALLS = (
    Structure("rounded_average",
              {"k": keep(4, 4), "a": whole(3, 30), "b": whole(3, 30), "c": whole(3, 30),
                                  "e": whole(3, 30)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c", "e"]),
               ("Divide by how many.", "divide", 0, "k"),
               ("Round to a whole number.", "round_number", 1)), (
        "{n} makes {a}, {b}, {c} and {e} {o} on {k} days. How many is that on average, rounded to "
        "a whole number?",
        "There are {a}, {b}, {c} and {e} {o} in {k} boxes. What is the average, rounded to a whole "
        "number?",
        "On {k} days {n} runs {a}, {b}, {c} and {e} kilometres. What is the average, rounded to a "
        "whole number?",
    ), (
        "What is the average, rounded to a whole number, if {k} friends have {a}, {b}, {c} and {e} "
        "{o}?",
        "Rounded to a whole number, how many {o} do {k} bags hold on average if they hold {a}, "
        "{b}, {c} and {e}?",
    )),
    Structure("pack_again", {"a": whole(2, 9), "b": whole(3, 12), "c": whole(2, 10)},
              (("Multiply groups by size.", "multiply", "a", "b"),
               ("Divide by the size.", "divide", 0, "c"),
               ("Go up to whole units.", "ceil", 1)), (
        "{n} has {a} boxes of {b} {o}. A bag holds {c} {o}. How many bags does {n} need for all of "
        "them?",
        "There are {a} rows with {b} {o} in each row. {n} takes {c} each time. How many times must "
        "{n} walk?",
        "On {a} days {n} makes {b} {o} each day. A box holds {c} of them. How many boxes does {n} "
        "need?",
    ), (
        "How many bags does {n} need for {a} boxes with {b} {o} in each box if a bag holds {c}?",
        "A car takes {c} of the {o}. There are {a} bags with {b} {o} each. How many cars does {n} "
        "need?",
    )),
    Structure("growth_and_loss",
              {"a": whole(2, 12), "b": whole(2, 5), "c": keep(2, 4), "e": whole(3, 60)},
              (("Growth over the whole time.", "power", "b", "c"),
               ("Multiply by the start.", "multiply", "a", 0),
               ("Take away what is gone.", "subtract", 1, "e")), (
        ("{n} starts with {a} {o} and has {b} times as many after each day. After {c} days {n} "
         "lost {e}. How many {o} are left?"),
        ("There are {a} cells in a cup. Each hour every cell splits into {b}. After {c} hours {n} "
         "takes {e} cells. How many cells are left?"),
        ("{n} starts a game with {a} coins. In each of {c} rounds the coins become {b} times as "
         "many. Then {n} must pay {e} coins. How many coins does {n} have left?"),
    ), (
        ("Each day every cell splits into {b}. {n} starts with {a} cells and takes {e} of them "
         "after {c} days. How many cells are left?"),
        ("How many coins are left if {n} starts with {a} coins, has {b} times as many after each "
         "of {c} rounds, and then must pay {e}?"),
    )),
    Structure("fence_cost", {"a": square(2, 20), "k": keep(4, 4), "c": whole(2, 9)},
              (("Side of the square.", "sqrt", "a"), ("All sides together.", "multiply", 0, "k"),
               ("Find the cost.", "multiply", 1, "c")), (
        ("A square garden has an area of {a} square metres. A fence around all {k} sides costs {c} "
         "coins for each metre. How much does the fence cost?"),
        ("A square room has an area of {a} square metres. {n} needs {c} {o} for each metre of its "
         "{k} walls. How many {o} does {n} need?"),
        ("{n} runs {c} times along the {k} sides of a square garden with an area of {a} square "
         "metres. How many metres is that?"),
    ), (
        ("How much does a fence along the {k} sides of a square cost if the area is {a} square "
         "metres and a metre costs {c} coins?"),
        ("The area of a square garden is {a} square metres. {n} puts {c} {o} for each metre along "
         "its {k} sides. How many {o} is that?"),
    )),
    Structure("two_kinds_full", {"a": whole(5, 50), "b": whole(5, 50), "c": whole(2, 10)},
              (("Add both amounts.", "add", "a", "b"), ("Divide by the size.", "divide", 0, "c"),
               ("Only full units count.", "floor", 1)), (
        "{n} has {a} red and {b} blue {o} and packs them in boxes of {c}. How many full boxes does "
        "{n} get?",
        "{n} has {a} eggs and gets {b} more. For one cake {n} needs {c} eggs. How many whole cakes "
        "can {n} make?",
        "{n} has {a} coins and {m} has {b} coins. A ticket costs {c} coins. How many tickets can "
        "they buy?",
    ), (
        "How many full bags does {n} get if {n} packs {a} blue and {b} red {o} in bags of {c}?",
        "A ticket costs {c} coins. {n} had {a} coins and gets {b} more. How many tickets can {n} "
        "buy now?",
    )),
    Structure("bags_left_over",
              {"a": whole(2, 9), "b": whole(3, 12), "c": whole(3, 30), "e": whole(3, 12)},
              (("Multiply groups by size.", "multiply", "a", "b"), ("Add the rest.", "add", 0, "c"),
               ("Find what is left over.", "modulo", 1, "e")), (
        ("{n} has {a} bags of {b} {o} and finds {c} more {o}. {n} packs all of them in boxes of "
         "{e}. How many {o} are left over?"),
        ("There are {a} boxes with {b} {o} in each box, and {c} more on the floor. {n} puts them "
         "in rows of {e}. How many {o} are left over?"),
        ("{n} makes {b} {o} on each of {a} days and {m} makes {c}. They share them equally among "
         "{e} friends. How many {o} are left over?"),
    ), (
        "How many {o} are left over if {n} has {a} boxes of {b} {o}, gets {c} more and puts them "
        "in rows of {e}?",
        ("On the floor are {c} {o}, and {b} more are in each of {a} bags. {e} friends share them "
         "equally. How many {o} are left over?"),
    )),
    Structure("pay_the_difference", {"a": whole(2, 40), "b": whole(2, 40), "c": whole(2, 9)},
              (("Subtract in this order.", "subtract", "a", "b"),
               ("Drop the sign.", "abs_value", 0),
               ("Multiply by how many.", "multiply", 1, "c")), (
        ("It is {a} degrees on Monday and {b} degrees on Tuesday. {n} must pay {c} coins for each "
         "degree of difference. How much is that?"),
        "{n} has {a} {o} and {m} has {b}. For each of the difference they pay {c} coins. How much "
        "do they pay?",
        ("One tower is {a} metres high and another is {b} metres high. {n} needs {c} {o} for each "
         "metre of difference. How many {o} does {n} need?"),
    ), (
        ("How much must {n} pay at {c} coins for each degree of difference if it is {a} degrees in "
         "the morning and {b} degrees in the evening?"),
        "In one box are {a} {o}, in another {b}. {n} gets {c} coins for each of the difference. "
        "How much is that?",
    )),
    Structure("boxes_cost", {"a": whole(11, 99), "b": whole(2, 10), "c": whole(2, 12)},
              (("Divide by the size.", "divide", "a", "b"), ("Go up to whole units.", "ceil", 0),
               ("Find the cost.", "multiply", 1, "c")), (
        "{n} has {a} {o}. A box holds {b} of them and costs {c} coins. How much must {n} pay for "
        "boxes for all {o}?",
        "On a trip there are {a} friends. A car takes {b} of them and costs {c} coins. How much do "
        "the cars cost?",
        "{n} must carry {a} {o} and takes {b} each time. Each time, {n} must walk {c} metres. How "
        "many metres is that?",
    ), (
        "How much must {n} pay for bags if each bag costs {c} coins and holds {b} {o}, and {n} has "
        "{a} {o}?",
        "A car costs {c} coins and takes {b} friends. How much must {a} friends pay for the cars "
        "they need?",
    )),
    Structure("off_target",
              {"a": whole(3, 30), "b": whole(3, 30), "c": whole(3, 30), "e": whole(10, 99)},
              (("Sum the list.", "sum_numbers", ["a", "b", "c"]),
               ("Subtract in this order.", "subtract", 0, "e"),
               ("Drop the sign.", "abs_value", 1)), (
        "{n} finds {a} {o} on Monday, {b} on Tuesday and {c} on Friday. {m} has {e} {o}. What is "
        "the difference?",
        "There are {a}, {b} and {c} {o} in three boxes and {e} in a bag. What is the difference of "
        "boxes and bag?",
        ("{n} runs {a}, {b} and {c} kilometres on three days, and {m} runs {e} kilometres. "
        "What is the difference in kilometres?"),
    ), (
        "What is the difference if {n} has {a}, {b} and {c} {o} in three bags and {m} has {e}?",
        "On three days {n} makes {a}, {b} and {c} {o}. {m} makes {e} {o} in all. What is the "
        "difference?",
    )),
)

TRAINED = ONE_CALL + TWO_CALLS + THREE_CALLS
