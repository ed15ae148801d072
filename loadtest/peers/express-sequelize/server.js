// The two routes of a balance as they are usually written with Express and Sequelize: one guarded
// UPDATE, and a transaction that locks the row first.
//
// PostgreSQL is named by libpq's variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE).
import cluster from 'node:cluster';
import os from 'node:os';
import express from 'express';
import { DataTypes, Sequelize, literal } from 'sequelize';

const PORT = Number(process.env.PORT ?? 3001);
// One process a core, as Express's guide for production advises.
const WORKERS = Number(process.env.WORKERS ?? os.availableParallelism());

const sequelize = new Sequelize({
  dialect: 'postgres',
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT ?? 5432),
  username: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  logging: false,
  // Sequelize's own number of connections for each process. The wait is long enough for 10,000
  // requests at once on one row.
  pool: { max: 5, acquire: 600_000 },
});

const User = sequelize.define(
  'User',
  {
    id: { type: DataTypes.BIGINT, primaryKey: true },
    balance: { type: DataTypes.BIGINT, allowNull: false },
  },
  { tableName: 'peer_users', timestamps: false },
);

class Answer extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** One statement. The database decides whether the balance suffices. */
async function guardedUpdate(userId, amount) {
  const [, rows] = await User.update(
    { balance: literal(`balance + ${amount}`) },
    { where: [{ id: userId }, literal(`balance + ${amount} >= 0`)], returning: true },
  );
  if (rows.length) return rows[0].balance;
  if (!(await User.findByPk(userId))) throw new Answer(404, 'User not found');
  throw new Answer(400, 'Insufficient funds');
}

/** A transaction that holds the row while this program decides. */
function pessimisticLocking(userId, amount) {
  return sequelize.transaction(async (transaction) => {
    const user = await User.findByPk(userId, { transaction, lock: transaction.LOCK.UPDATE });
    if (!user) throw new Answer(404, 'User not found');
    const balance = Number(user.balance) + amount;
    if (balance < 0) throw new Answer(400, 'Insufficient funds');
    await user.update({ balance }, { transaction });
    return balance;
  });
}

function route(change) {
  return async (request, response) => {
    const { userId, amount } = request.body ?? {};
    // Both become part of SQL, so nothing but whole numbers may pass.
    if (!Number.isSafeInteger(userId) || !Number.isSafeInteger(amount)) {
      throw new Answer(400, 'userId and amount are required');
    }
    response.json({ balance: Number(await change(userId, amount)) });
  };
}

function app() {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(express.json());
  app.patch('/approach/self/balance', route(guardedUpdate));
  app.patch('/approach/transaction-pessimistic-locking/balance', route(pessimisticLocking));
  app.use((error, _request, response, _next) => {
    if (!(error instanceof Answer)) console.error(`ERROR ${error.message}`);
    const status = error.status ?? 500;
    response.status(status).json({ error: status < 500 ? error.message : 'Internal server error' });
  });
  return app;
}

async function createUser() {
  await User.sync();
  await User.findOrCreate({ where: { id: 1 }, defaults: { balance: 10_000 } });
}

if (cluster.isPrimary) {
  await createUser();
  await sequelize.close();
  let listening = 0;
  cluster.on('listening', () => {
    listening += 1;
    if (listening === WORKERS) console.log(`listening on http://127.0.0.1:${PORT}`);
  });
  for (let worker = 0; worker < WORKERS; worker += 1) cluster.fork();
} else {
  // Room for 10,000 clients that connect at once.
  app().listen({ port: PORT, host: '127.0.0.1', backlog: 16_384 });
}
