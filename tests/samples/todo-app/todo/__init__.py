"""A list of things to do."""


class Todo:
    def __init__(self):
        self.items = []

    def add(self, text):
        # FIXME: the same task can be added twice
        self.items.append([text, False])
        return len(self.items)

    def finish(self, number):
        self.items[number - 1][1] = True

    def open(self):
        return [text for text, done in self.items if not done]
