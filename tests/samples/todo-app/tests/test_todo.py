import unittest

from todo import Todo


class TodoTest(unittest.TestCase):
    def test_a_finished_task_is_not_open(self):
        todo = Todo()
        todo.add("write")
        todo.add("read")
        todo.finish(1)
        self.assertEqual(todo.open(), ["read"])


if __name__ == "__main__":
    unittest.main()
