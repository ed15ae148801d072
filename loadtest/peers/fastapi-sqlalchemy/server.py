"""The two routes of a balance as they are usually written with FastAPI and SQLAlchemy: one guarded
UPDATE, and a transaction that locks the row first.

PostgreSQL is named by libpq's variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE).
"""

import asyncio
import os
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, StrictInt
from sqlalchemy import BigInteger, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PORT = int(os.environ.get("PORT", "3002"))
# One process a core, as uvicorn's guide for deployment advises.
WORKERS = int(os.environ.get("WORKERS", os.cpu_count() or 1))

# SQLAlchemy's own number of connections for each process. The wait is long enough for 10,000
# requests at once on one row. asyncpg reads libpq's variables itself.
engine = create_async_engine(
    "postgresql+asyncpg://", pool_size=5, max_overflow=0, pool_timeout=600
)
Sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI(openapi_url=None)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "peer_users"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(BigInteger)


class Change(BaseModel):
    userId: StrictInt
    amount: StrictInt


class Answer(Exception):
    def __init__(self, status: int, sentence: str):
        self.status = status
        self.sentence = sentence


async def session():
    async with Sessions() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


@app.patch("/approach/self/balance")
async def guarded_update(change: Change, session: Session):
    """One statement. The database decides whether the balance suffices."""
    statement = (
        update(User)
        .where(User.id == change.userId, User.balance + change.amount >= 0)
        .values(balance=User.balance + change.amount)
        .returning(User.balance)
        .execution_options(synchronize_session=False)
    )
    balance = await session.scalar(statement)
    if balance is None:
        found = await session.get(User, change.userId)
        raise Answer(400, "Insufficient funds") if found else Answer(404, "User not found")
    await session.commit()
    return JSONResponse({"balance": balance})


@app.patch("/approach/transaction-pessimistic-locking/balance")
async def pessimistic_locking(change: Change, session: Session):
    """A transaction that holds the row while this program decides."""
    user = await session.scalar(select(User).where(User.id == change.userId).with_for_update())
    if user is None:
        raise Answer(404, "User not found")
    if user.balance + change.amount < 0:
        raise Answer(400, "Insufficient funds")
    user.balance += change.amount
    await session.commit()
    return JSONResponse({"balance": user.balance})


@app.exception_handler(Answer)
async def answered(_: Request, answer: Answer):
    return JSONResponse({"error": answer.sentence}, answer.status)


async def create_user():
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(
            insert(User).values(id=1, balance=10_000).on_conflict_do_nothing()
        )
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(create_user())
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    # Room for 10,000 clients that connect at once.
    uvicorn.run(
        "server:app", port=PORT, workers=WORKERS, backlog=16_384, access_log=False,
        log_level="warning", timeout_keep_alive=75,
    )
