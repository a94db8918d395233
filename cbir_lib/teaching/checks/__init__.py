"""What the exercises of each chapter expect: one module a chapter, one function an exercise.

Each function returns the expected answers in the order of the starter, computed by the library.
``EXERCISES`` lists the functions; their places are the numbers of the exercises.
"""
