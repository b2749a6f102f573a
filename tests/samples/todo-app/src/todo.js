'use strict';

class Todo {
  #items = [];

  add(text) {
    if (!text) throw new Error('a task needs a text');
    this.#items.push({ text, done: false });
    return this.#items.length;
  }

  finish(number) {
    const item = this.#items[number - 1];
    if (!item) throw new RangeError(`there is no task ${number}`);
    item.done = true;
  }

  open() {
    return this.#items.filter((item) => !item.done).map((item) => item.text);
  }
}

module.exports = { Todo };
