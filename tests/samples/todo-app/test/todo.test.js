'use strict';

const assert = require('node:assert');
const { test } = require('node:test');
const { Todo } = require('../src/todo.js');

test('a finished task is not open', () => {
  const todo = new Todo();
  todo.add('write');
  todo.add('read');
  todo.finish(1);
  assert.deepStrictEqual(todo.open(), ['read']);
});

test('the time zone is the one asked for', () => {
  assert.strictEqual(Intl.DateTimeFormat().resolvedOptions().timeZone, process.env.TZ || 'UTC');
});
